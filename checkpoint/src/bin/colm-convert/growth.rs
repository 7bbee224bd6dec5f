//! `--chains` and `--add`: the chains that `colm-convert expand` adds.

use anyhow::{anyhow, Result};
use clap::Args;
use colm_checkpoint::convert::{self, ExpandError, Growth, NewChain};
use colm_checkpoint::{Architecture, Chains, ColmConfig};

use crate::numbers::{in_range, relative_size};

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct GrowthArgs {
    /// The relative sizes of all chains, beginning with those of SRC.
    #[arg(
        long,
        value_name = "C1,C2,..",
        value_delimiter = ',',
        value_parser = relative_size,
        allow_hyphen_values = true
    )]
    chains: Vec<usize>,
    /// One more chain: its widths, such as `hidden=128,heads=2,intermediate=512` (in a CoLM also `kv-heads=1`), or
    /// about how many parameters it adds to SRC, such as `10%`. May be given several times.
    #[arg(long, value_name = "CHAIN", value_parser = parse, allow_hyphen_values = true)]
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

fn parse(text: &str) -> Result<Addition, String> {
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent: Option<f64> = percent.trim().parse().ok();
            let percent = percent.filter(|percent| percent.is_finite() && *percent > 0.);
            let share = percent.map(|percent| Addition::Share(percent / 100.));
            share.ok_or_else(|| "expected a positive number before the %, such as 10%".into())
        }
        None => widths(text).map(Addition::Widths),
    }
}

fn widths(text: &str) -> Result<NewChain, String> {
    let (mut hidden, mut heads, mut kv_heads, mut intermediate) = (None, None, None, None);
    for entry in text.split(',') {
        let Some((name, number)) = entry.split_once('=') else {
            return Err(format!("{entry:?}: expected NAME=NUMBER, or a share such as 10%"));
        };
        // The new chains of an Air have no key/value heads.
        let (width, least) = match name.trim() {
            "hidden" => (&mut hidden, 1),
            "heads" => (&mut heads, 1),
            "kv-heads" => (&mut kv_heads, 0),
            "intermediate" => (&mut intermediate, 1),
            other => {
                return Err(format!("{other:?}: expected hidden, heads, kv-heads or intermediate"))
            }
        };
        let most = NewChain::MAX_WIDTH;
        let number = in_range(number.trim(), least..=most).ok_or_else(|| {
            format!("{:?}: expected a whole number from {least} to {most}", entry.trim())
        })?;
        if width.replace(number).is_some() {
            return Err(format!("{} is given twice; expected it once", name.trim()));
        }
    }
    let needed = |name, width: Option<usize>| {
        width.ok_or_else(|| {
            format!("{name}= is missing; expected hidden=, heads= and intermediate=")
        })
    };
    Ok(NewChain {
        hidden: needed("hidden", hidden)?,
        heads: needed("heads", heads)?,
        kv_heads,
        intermediate: needed("intermediate", intermediate)?,
    })
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
            ("hidden=-1", "\"hidden=-1\": expected a whole number from 1 to 2147483647"),
            ("hidden=0,heads=2,intermediate=4", "\"hidden=0\": expected a whole number from 1"),
            ("hidden=99999999999999999999", "expected a whole number from 1 to 2147483647"),
            ("hidden=1, heads=2, intermediate=1.5", "\"intermediate=1.5\": expected a whole"),
            ("kv-heads=x", "\"kv-heads=x\": expected a whole number from 0 to 2147483647"),
            ("0%", "expected a positive number before the %"),
            ("-5%", "expected a positive number before the %"),
            ("inf%", "expected a positive number before the %"),
            ("10%%", "expected a positive number before the %"),
            ("%", "expected a positive number before the %"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
