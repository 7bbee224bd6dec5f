//! Errors of config.json.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::limits::{MAX_CHAINS, MAX_SIZE};
use crate::json::{JsonError, JsonFileError};
use crate::text::{abbreviate, abbreviate_list};

/// A config that breaks a rule of `docs/spec.md#config`. Each message names the field and what is
/// expected; chains count from 1 in messages.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] JsonFileError),
    /// An error in the file at `path`.
    #[error("{path}: {source}")]
    In {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ConfigError>,
    },
    /// The text is not JSON, or a field has another type.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// `architectures` names no CoLM architecture.
    #[error(
        "`architectures` is {}; expected [\"CoLMForCausalLM\"] or [\"CoLMAirForCausalLM\"]",
        abbreviate_list(.0)
    )]
    Architecture(Vec<String>),
    /// The config describes another model.
    #[error(
        "`architectures` is {}, and `chains` is absent; expected a CoLM model, which `colm-convert expand` makes \
         from a Llama, Mistral, Qwen2 or Qwen3 model",
        abbreviate_list(.0)
    )]
    NoChainsField(Vec<String>),
    /// `chains` is empty.
    #[error("`chains` is empty; expected one relative size per chain, such as [1, 1]")]
    NoChains,
    /// `chains` has more entries than are supported.
    #[error("`chains` has {0} entries; expected at most {MAX_CHAINS}")]
    TooManyChains(usize),
    /// An entry of `chains` is 0.
    #[error("`chains`: chain {chain} has size 0; expected at least 1")]
    EmptyChain {
        /// The chain, from 1.
        chain: usize,
    },
    /// The entries of `chains` are too large.
    #[error(
        "`chains` = {}: the relative sizes sum to more than {MAX_SIZE}; divide them by a common factor",
        abbreviate_list(.0)
    )]
    ChainsTooLarge(Vec<usize>),
    /// A width that cannot be split over the chains.
    #[error(
        "`{field}` = {width} cannot be split over chains {}: chain {chain} would not get a whole number \
         of at least 1; `chain_widths` can give its shares outright",
        abbreviate_list(.chains)
    )]
    Indivisible {
        /// The field of the width.
        field: &'static str,
        /// Its value.
        width: usize,
        /// The relative sizes of the chains.
        chains: Vec<usize>,
        /// The first chain whose share is not whole, from 1.
        chain: usize,
    },
    /// A field with a value that is not allowed.
    #[error("`{field}` = {value}: {expected}")]
    Value {
        /// The field.
        field: String,
        /// Its value, abbreviated.
        value: String,
        /// What is expected.
        expected: String,
    },
}

impl ConfigError {
    pub(crate) fn in_file(self, path: &Path) -> Self {
        Self::In { path: path.into(), source: Box::new(self) }
    }
}

/// The error for a `field` whose `value` is not allowed.
pub(crate) fn invalid(
    field: &str,
    value: &(impl ToString + ?Sized),
    expected: impl Into<String>,
) -> ConfigError {
    // `expected` may quote another field of the file.
    let [value, expected] =
        [value.to_string(), expected.into()].map(|text| abbreviate(&text).into_owned());
    ConfigError::Value { field: field.into(), value, expected }
}
