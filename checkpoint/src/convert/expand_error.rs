//! Why a model cannot be expanded.

use thiserror::Error;

use super::new_chain::NewChain;
use super::ratios::{Indivisible, NearestRatios};
use crate::config::{Architecture, ConfigError};
use crate::format::CheckpointError;

/// The most parameters of a model: far more than any model has.
pub(super) const MAX_PARAMETERS: u128 = 100_000_000_000_000;

/// Why a model cannot be expanded as asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// The new ratios do not begin with those of the base.
    #[error(
        "chains {asked:?} do not begin with the model's own: expected {count} entries in the \
         proportions of {base:?} first"
    )]
    OtherBase {
        /// The relative sizes that were asked for.
        asked: Vec<usize>,
        /// The number of chains of the base.
        count: usize,
        /// The relative sizes of the base.
        base: Vec<usize>,
    },
    /// A new chain would not get a whole share of a width.
    #[error("{why}; {}", suggestion(.nearest.as_ref()))]
    Indivisible {
        /// The chain and the width.
        why: Box<Indivisible>,
        /// The nearest relative sizes that are possible; None if there are none near those that were asked for.
        nearest: Option<NearestRatios>,
    },
    /// The base has several chains and another architecture.
    #[error(
        "a {} of {chains} chains cannot become a {}: its weights depend on which chains own keys and \
         values; only a model of one chain is both",
        .base.name(), .asked.name()
    )]
    OtherArchitecture {
        /// The architecture of the base.
        base: Architecture,
        /// The architecture that was asked for.
        asked: Architecture,
        /// The number of chains of the base.
        chains: usize,
    },
    /// `initializer_range` of the base, as quoted here, is not a positive number.
    #[error("`initializer_range` = {0}: expected a positive number")]
    InitializerRange(String),
    /// The new model is too large.
    #[error(
        "chains {chains:?} would make a model of {parameters} parameters, {} bytes with 2 bytes for \
         each; expected at most {MAX_PARAMETERS} parameters",
        2 * parameters
    )]
    TooLarge {
        /// The relative sizes of the chains.
        chains: Vec<usize>,
        /// The number of parameters of the new model.
        parameters: u128,
    },
    /// A width of a new chain is out of range.
    #[error("a new chain of {chain}: expected {width} from 1 to {}", NewChain::MAX_WIDTH)]
    Width {
        /// The chain.
        chain: NewChain,
        /// The name of the width, as [`NewChain`] is displayed.
        width: &'static str,
    },
    /// Key/value heads for a new chain of an Air.
    #[error("a new chain of {chain}: in CoLM-Air chain 1 owns all key/value heads; expected none for the new one")]
    KvHeadsOfAir {
        /// The chain.
        chain: NewChain,
    },
    /// The query heads of a new chain cannot share key/value heads as in the base.
    #[error(
        "a new chain of {chain}: in the model {heads} query heads share {kv_heads} key/value head{}; expected {}, or \
         kv-heads=N",
        if *.kv_heads == 1 { "" } else { "s" },
        nearest_heads(.chain.heads, *.heads)
    )]
    UnsharedHeads {
        /// The chain.
        chain: NewChain,
        /// The fewest query heads of the base to which a whole number of key/value heads belongs.
        heads: usize,
        /// Those key/value heads.
        kv_heads: usize,
    },
    /// No chain adds about the share of parameters that was asked for.
    #[error(
        "no chain adds about {percent} % to this model{}",
        nearest.map_or(String::new(), |(chain, percent)| format!("; the nearest is {chain}, which adds {percent:.1} %"))
    )]
    NoChainOfSize {
        /// The size that was asked for, in percent of the model's parameters.
        percent: f64,
        /// The nearest chain, and its size in percent.
        nearest: Option<(NewChain, f64)>,
    },
    /// The config of the new model breaks a rule.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The plan of the conversion cannot be made.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

fn suggestion(nearest: Option<&NearestRatios>) -> String {
    match nearest {
        Some(NearestRatios { chains, parameters }) => {
            format!("the nearest possible ratios are {chains:?}, with {parameters} parameters")
        }
        None => "no ratios near these are possible".into(),
    }
}

/// The multiples of `of` next to `heads`, in words.
fn nearest_heads(heads: usize, of: usize) -> String {
    let [below, above] = [(heads / of * of).max(of), heads.next_multiple_of(of)];
    if below == above {
        format!("{below} query heads")
    } else {
        format!("{below} or {above} query heads")
    }
}
