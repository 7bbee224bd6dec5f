//! `--chains` and `--add`: the chains that `colm-convert expand` adds.

use anyhow::{anyhow, bail, ensure, Context, Result};
use clap::Args;
use colm_checkpoint::convert::{self, ExpandError, Growth, NewChain};
use colm_checkpoint::{Architecture, Chains, ColmConfig};

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct GrowthArgs {
    /// The relative sizes of all chains, beginning with those of SRC.
    #[arg(long, value_name = "C1,C2,..", value_delimiter = ',')]
    chains: Vec<usize>,
    /// One more chain: its widths, such as `hidden=128,heads=2,intermediate=512` (in a CoLM also `kv-heads=1`), or
    /// about how many parameters it adds to SRC, such as `10%`. May be given several times.
    #[arg(long, value_name = "CHAIN", value_parser = parse)]
    add: Vec<Addition>,
}

/// A value of `--add`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Addition {
    Widths(NewChain),
    /// Its size, as a share of the parameters of the base.
    Share(f64),
}

impl GrowthArgs {
    /// The chains for `base`.
    pub fn growth(&self, base: &ColmConfig, architecture: Architecture) -> Result<Growth> {
        if !self.chains.is_empty() {
            return Ok(Growth::Ratios(Chains::new(self.chains.clone())?));
        }
        let parameters = base.parameters(base.all_chains());
        let (mut new, mut config) = (Vec::new(), base.clone());
        for addition in &self.add {
            let chain = match *addition {
                Addition::Widths(chain) => chain,
                Addition::Share(share) => {
                    convert::nearest_chain(&config, architecture, parameters, share)?
                }
            };
            new.push(chain);
            config = convert::expanded_config(base, &Growth::Widths(new.clone()), architecture)?;
        }
        Ok(Growth::Widths(new))
    }
}

/// `error`, with the flag that avoids it.
pub fn with_flag(error: ExpandError) -> anyhow::Error {
    match error {
        ExpandError::Indivisible { .. } => anyhow!("{error}; --add gives a chain any widths"),
        error => error.into(),
    }
}

fn parse(text: &str) -> Result<Addition> {
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.trim().parse().with_context(|| format!("{percent:?}"))?;
        let is_share = percent.is_finite() && percent > 0.;
        ensure!(is_share, "{percent} %: expected a positive number");
        return Ok(Addition::Share(percent / 100.));
    }
    let (mut hidden, mut heads, mut kv_heads, mut intermediate) = (None, None, None, None);
    for entry in text.split(',') {
        let Some((name, number)) = entry.split_once('=') else {
            bail!("{entry:?}: expected NAME=NUMBER, or a share such as 10%");
        };
        let width = match name.trim() {
            "hidden" => &mut hidden,
            "heads" => &mut heads,
            "kv-heads" => &mut kv_heads,
            "intermediate" => &mut intermediate,
            other => bail!("{other:?}: expected hidden, heads, kv-heads or intermediate"),
        };
        let number = number.trim().parse().with_context(|| format!("{entry:?}"))?;
        ensure!(width.replace(number).is_none(), "{name} is given twice");
    }
    let needed = |name, width: Option<usize>| width.with_context(|| format!("{name}= is missing"));
    Ok(Addition::Widths(NewChain {
        hidden: needed("hidden", hidden)?,
        heads: needed("heads", heads)?,
        kv_heads,
        intermediate: needed("intermediate", intermediate)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_given_by_its_widths_or_its_size() {
        let chain = NewChain { hidden: 128, heads: 2, kv_heads: None, intermediate: 512 };
        let parsed = |text| parse(text).unwrap();
        assert_eq!(parsed("hidden=128,heads=2,intermediate=512"), Addition::Widths(chain));
        let chain = NewChain { kv_heads: Some(1), ..chain };
        assert_eq!(
            parsed("kv-heads=1, heads=2, hidden=128, intermediate=512"),
            Addition::Widths(chain)
        );
        assert_eq!(parsed("12.5%"), Addition::Share(0.125));
    }

    #[test]
    fn other_values_are_errors_that_say_what_is_expected() {
        for (text, word) in [
            ("hidden=128,heads=2", "intermediate= is missing"),
            ("hidden=128,hidden=2", "twice"),
            ("hidden", "NAME=NUMBER"),
            ("width=3", "expected hidden"),
            ("hidden=-1", "hidden=-1"),
            ("0%", "positive"),
            ("-5%", "positive"),
            ("inf%", "positive"),
            ("%", "\"\""),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
