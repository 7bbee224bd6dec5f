//! Why a config is refused.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::chains::MAX_CHAINS;
use crate::config_checks::MAX_SIZE;
use crate::json_file::{JsonError, JsonFileError};
use crate::shortened::{list, shortened};

/// Why a config is refused. Each message names the field and what would be right.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum ConfigError {
    #[error(transparent)]
    File(#[from] JsonFileError),
    #[error("{path}: {source}")]
    In { path: PathBuf, source: Box<ConfigError> },
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error(
        "`architectures` is {}; expected [\"CoLMForCausalLM\"] or [\"CoLMAirForCausalLM\"]",
        list(.0)
    )]
    Architecture(Vec<String>),
    #[error(
        "`architectures` is {}, and `chains` is absent; expected a CoLM model, which `colm-convert expand` makes \
         from a Llama, Mistral or Qwen2 model",
        list(.0)
    )]
    WithoutChains(Vec<String>),
    #[error("`chains` is empty; expected one relative size per chain, such as [1, 1]")]
    NoChains,
    #[error("`chains` has {0} entries; expected at most {MAX_CHAINS}")]
    TooManyChains(usize),
    #[error("`chains`: chain {chain} has size 0; every chain needs at least 1")]
    EmptyChain { chain: usize },
    #[error(
        "`chains` = {}: the relative sizes sum to more than {MAX_SIZE}; divide them by a common factor",
        list(.0)
    )]
    ChainsTooLarge(Vec<usize>),
    #[error(
        "`{field}` = {width} cannot be split over chains {}: chain {chain} would not get a whole number \
         of at least 1",
        list(.chains)
    )]
    Indivisible { field: &'static str, width: usize, chains: Vec<usize>, chain: usize },
    #[error("`{field}` = {value}: {expected}")]
    Value { field: String, value: String, expected: String },
}

impl ConfigError {
    pub(crate) fn in_file(self, path: &Path) -> Self {
        Self::In { path: path.into(), source: Box::new(self) }
    }
}

pub(crate) fn refuse(
    field: &str,
    value: &(impl ToString + ?Sized),
    expected: impl Into<String>,
) -> ConfigError {
    // Some say what another field is.
    let [value, expected] =
        [value.to_string(), expected.into()].map(|text| shortened(&text).into_owned());
    ConfigError::Value { field: field.into(), value, expected }
}
