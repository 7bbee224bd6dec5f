//! The widths of the chains that an expanded model gets.

use super::expand_error::{ExpandError, MAX_PARAMETERS};
use super::new_chain::{Growth, NewChain};
use super::ratios::{check_shares, gcd, nearest, starts_with, NearestRatios};
use crate::config::{Architecture, ChainWidths, Chains, ColmConfig, ConfigFile, Split};

/// The shares of every width, chain after chain.
struct Shares {
    hidden: Vec<usize>,
    intermediate: Vec<usize>,
    heads: Vec<usize>,
    kv_heads: Vec<usize>,
}

impl Shares {
    fn of(config: &ColmConfig) -> Self {
        let shares = |split: &Split| (0..split.count()).map(|chain| split.of(chain)).collect();
        Self {
            hidden: shares(&config.hidden),
            intermediate: shares(&config.intermediate),
            heads: shares(&config.heads),
            kv_heads: shares(&config.kv_heads),
        }
    }

    fn push(&mut self, chain: NewChain, kv_heads: usize) {
        self.hidden.push(chain.hidden);
        self.intermediate.push(chain.intermediate);
        self.heads.push(chain.heads);
        self.kv_heads.push(kv_heads);
    }
}

/// The config of the larger model.
///
/// # Errors
/// If the ratios of `growth` do not begin with those of `base`, or a new chain would not get a whole share of every
/// width (the error suggests the nearest ratios that are possible); if a new chain has key/value heads in an Air, or query
/// heads that cannot share key/value heads as in `base`; if the new widths break a rule of `docs/spec.md`; if `base` cannot
/// be of that architecture; or if the model exceeds 10^14 parameters.
pub fn expanded_config(
    base: &ColmConfig,
    growth: &Growth,
    architecture: Architecture,
) -> Result<ColmConfig, ExpandError> {
    match grown_config(base, growth, architecture) {
        Err(ExpandError::Indivisible { why, .. }) => {
            let nearest = nearest_ratios(base, &why.asked, architecture);
            Err(ExpandError::Indivisible { why, nearest })
        }
        grown => grown,
    }
}

/// The ratios nearest to `asked` that are possible, if there are any near them.
fn nearest_ratios(
    base: &ColmConfig,
    asked: &[usize],
    architecture: Architecture,
) -> Option<NearestRatios> {
    let growth = Growth::Ratios(nearest(base, asked, architecture)?);
    let grown = grown_config(base, &growth, architecture).ok()?;
    let parameters = grown.parameters(grown.all_chains());
    Some(NearestRatios { chains: grown.file.chains, parameters })
}

/// As [`expanded_config`], without a suggestion.
fn grown_config(
    base: &ColmConfig,
    growth: &Growth,
    architecture: Architecture,
) -> Result<ColmConfig, ExpandError> {
    check_architecture(base, architecture)?;
    let config = ColmConfig::new(grown_file(base, growth, architecture)?)?;
    match config.parameters(config.all_chains()) {
        parameters if parameters > MAX_PARAMETERS => {
            Err(ExpandError::TooLarge { chains: config.file.chains, parameters })
        }
        _ => Ok(config),
    }
}

/// Checks that `base` itself can be of `architecture`.
fn check_architecture(base: &ColmConfig, architecture: Architecture) -> Result<(), ExpandError> {
    let (chains, asked) = (base.chains.count(), architecture);
    match base.architecture {
        same if same == asked => Ok(()),
        base if chains > 1 => Err(ExpandError::OtherArchitecture { base, asked, chains }),
        _ => {
            let mut file = base.file.clone();
            set_architecture(&mut file, architecture);
            Ok(ColmConfig::new(file).map(drop)?)
        }
    }
}

fn set_architecture(file: &mut ConfigFile, architecture: Architecture) {
    file.architectures = vec![architecture.name().into()];
    file.model_type = architecture.model_type().into();
}

/// The fields of `base` with the chains of `growth`. They are not checked yet, except that the chains of a ratio get
/// whole shares.
fn grown_file(
    base: &ColmConfig,
    growth: &Growth,
    architecture: Architecture,
) -> Result<ConfigFile, ExpandError> {
    let mut shares = Shares::of(base);
    let chains = match growth {
        Growth::Ratios(chains) => {
            for chain in proportional(base, chains.ratios(), architecture)? {
                let kv_heads = chain.kv_heads.unwrap_or(0);
                shares.push(chain, kv_heads);
            }
            chains.clone()
        }
        Growth::Widths(new) => {
            for &chain in new {
                check_widths(chain, architecture)?;
                shares.push(chain, kv_heads(base, chain, architecture)?);
            }
            let common = shares.hidden.iter().fold(0, |common, &width| gcd(common, width as u128));
            Chains::new(shares.hidden.iter().map(|width| width / common as usize).collect())?
        }
    };
    let mut file = base.file.clone();
    set_architecture(&mut file, architecture);
    file.chains = chains.ratios().to_vec();
    file.hidden_size = shares.hidden.iter().sum();
    file.intermediate_size = shares.intermediate.iter().sum();
    file.num_attention_heads = shares.heads.iter().sum();
    file.num_key_value_heads = Some(shares.kv_heads.iter().sum());
    file.head_dim = Some(base.head_dim);
    file.chain_widths = chain_widths(&chains, architecture, shares);
    Ok(file)
}

/// The new chains of `ratios`, of which the first are those of `base`.
fn proportional(
    base: &ColmConfig,
    ratios: &[usize],
    architecture: Architecture,
) -> Result<Vec<NewChain>, ExpandError> {
    let count = base.chains.count();
    if !starts_with(ratios, base.chains.ratios()) {
        let (asked, base) = (ratios.to_vec(), base.chains.ratios().to_vec());
        return Err(ExpandError::OtherBase { asked, count, base });
    }
    check_shares(base, ratios, architecture)
        .map_err(|why| ExpandError::Indivisible { why, nearest: None })?;
    // The divisions are exact, because every chain's share is whole.
    let old: usize = ratios[..count].iter().sum();
    let share = |split: &Split, ratio: usize| {
        (split.total() as u128 * ratio as u128 / old as u128) as usize
    };
    let new = ratios[count..].iter().map(|&ratio| NewChain {
        hidden: share(&base.hidden, ratio),
        heads: share(&base.heads, ratio),
        kv_heads: match architecture {
            Architecture::Colm => Some(share(&base.kv_heads, ratio)),
            Architecture::ColmAir => Some(0),
        },
        intermediate: share(&base.intermediate, ratio),
    });
    Ok(new.collect())
}

/// Checks each width of a new chain by itself. Air's chains have no key/value heads.
fn check_widths(chain: NewChain, architecture: Architecture) -> Result<(), ExpandError> {
    let kv_heads = chain.kv_heads.filter(|_| architecture == Architecture::Colm).unwrap_or(1);
    let widths = [
        ("hidden", chain.hidden),
        ("heads", chain.heads),
        ("kv-heads", kv_heads),
        ("intermediate", chain.intermediate),
    ];
    match widths.into_iter().find(|(_, size)| !(1..=NewChain::MAX_WIDTH).contains(size)) {
        Some((width, _)) => Err(ExpandError::Width { chain, width }),
        None => Ok(()),
    }
}

/// The key/value heads of a new chain.
fn kv_heads(
    base: &ColmConfig,
    chain: NewChain,
    architecture: Architecture,
) -> Result<usize, ExpandError> {
    let (heads, kv_heads) = smallest_head_group(base);
    match (architecture, chain.kv_heads) {
        (Architecture::ColmAir, None | Some(0)) => Ok(0),
        (Architecture::ColmAir, Some(_)) => Err(ExpandError::KvHeadsOfAir { chain }),
        (Architecture::Colm, Some(kv_heads)) => Ok(kv_heads),
        (Architecture::Colm, None) if chain.heads.is_multiple_of(heads) => {
            Ok(chain.heads / heads * kv_heads)
        }
        (Architecture::Colm, None) => Err(ExpandError::UnsharedHeads { chain, heads, kv_heads }),
    }
}

/// The smallest group of heads in the proportion of chain 1 of `base`: its query heads and its key/value heads.
pub(super) fn smallest_head_group(base: &ColmConfig) -> (usize, usize) {
    let (heads, kv_heads) = (base.heads.of(0), base.kv_heads.of(0));
    let common = gcd(heads as u128, kv_heads as u128) as usize;
    (heads / common, kv_heads / common)
}

/// The entries for the widths that do not follow `chains`; None if all do.
fn chain_widths(
    chains: &Chains,
    architecture: Architecture,
    shares: Shares,
) -> Option<ChainWidths> {
    let unless_proportional = |shares: Vec<usize>| {
        let split = chains.split("", shares.iter().sum()).ok();
        let of = |split: Split| (0..split.count()).map(|chain| split.of(chain)).collect::<Vec<_>>();
        (split.map(of).as_ref() != Some(&shares)).then_some(shares)
    };
    let widths = ChainWidths {
        hidden_size: unless_proportional(shares.hidden),
        intermediate_size: unless_proportional(shares.intermediate),
        num_attention_heads: unless_proportional(shares.heads),
        num_key_value_heads: match architecture {
            Architecture::Colm => unless_proportional(shares.kv_heads),
            // Chain 1 has all of them without an entry.
            Architecture::ColmAir => None,
        },
    };
    (widths != ChainWidths::default()).then_some(widths)
}
