//! config.json: its fields, what follows from them, and every refusal in one place.

use std::path::Path;

use serde::Deserialize;

use crate::any_json::AnyJson;
use crate::chain_count::{ChainCount, ChainCountError};
use crate::chains::{Chains, Split};
use crate::config_checks::{check_sizes, head_dim, rope_scaling, split_kv_heads};
use crate::json_file::{self, parse_text, read_text_up_to, JsonFileError};
use crate::llama::Fields;
use crate::llama_rope::RopeFields;

pub use crate::config_error::ConfigError;
pub use crate::config_file::{Architecture, ConfigFile, RopeScaling};

pub(crate) use crate::config_error::refuse;

/// The longest config.json that is read, in bytes: hundreds of times the usual length.
const MAX_FILE: u64 = 10_000_000;

/// The four numbers of Llama 3's rescaling, all present.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3Scaling {
    /// By how much the long wavelengths are stretched.
    pub factor: f64,
    /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are long.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_max_position_embeddings / high_freq_factor` stay as they are.
    pub high_freq_factor: f64,
    /// In tokens.
    pub original_max_position_embeddings: usize,
}

/// A config that SPEC allows, with every width split over the chains.
#[derive(Clone, Debug)]
pub struct ColmConfig {
    /// The fields as written.
    pub file: ConfigFile,
    /// CoLM or CoLM-Air.
    pub architecture: Architecture,
    /// The relative sizes of the chains.
    pub chains: Chains,
    /// `hidden_size` over the chains.
    pub hidden: Split,
    /// `intermediate_size` over the chains.
    pub intermediate: Split,
    /// Query heads.
    pub heads: Split,
    /// Key/value heads. Air: all in the first chain.
    pub kv_heads: Split,
    /// Elements of a query, key or value head: an even number.
    pub head_dim: usize,
    /// None for plain RoPE.
    pub rope_scaling: Option<Llama3Scaling>,
}

impl ColmConfig {
    /// Reads and checks `config.json` at `path`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read_text(path)?).map_err(|source| source.in_file(path))
    }

    /// Checks the text of a config.json.
    pub fn parse(json: &str) -> Result<Self, ConfigError> {
        // Of a field that comes twice, serde would let the last one win.
        let fields: Fields = parse_text(json)?;
        let rope = RopeFields::of(&fields);
        Self::of_fields(fields, json).map_err(|error| rope.name_as_written(error))
    }

    /// Of the `fields` of `json`. Errors name RoPE's fields as SPEC 3 does.
    fn of_fields(mut fields: Fields, json: &str) -> Result<Self, ConfigError> {
        let file = match fields.get("rope_parameters").or(fields.get("rope_scaling")) {
            Some(_) => {
                RopeFields::unite(&mut fields)?;
                json_file::of_map(fields.into_map())
            }
            // With line and column in errors.
            None => parse_text(json),
        };
        let file = file.map_err(|error| match without_chains(json) {
            Some(architectures) => ConfigError::WithoutChains(architectures),
            None => error.into(),
        })?;
        Self::new(file)
    }

    /// Refuses what SPEC 1 to 3 forbid, and splits every width.
    pub fn new(file: ConfigFile) -> Result<Self, ConfigError> {
        let architecture = match file.architectures.as_slice() {
            [one] if one == Architecture::Colm.name() => Architecture::Colm,
            [one] if one == Architecture::ColmAir.name() => Architecture::ColmAir,
            _ => return Err(ConfigError::Architecture(file.architectures)),
        };
        if file.model_type != architecture.model_type() {
            return Err(refuse(
                "model_type",
                &file.model_type,
                format!("{} has model_type \"{}\"", architecture.name(), architecture.model_type()),
            ));
        }
        if file.hidden_act != "silu" {
            return Err(refuse(
                "hidden_act",
                &file.hidden_act,
                "only \"silu\" is defined for CoLM",
            ));
        }
        if file.other.get("rope_parameters").is_some_and(|value| !value.is_null()) {
            return Err(refuse(
                "rope_parameters",
                "{..}",
                "expected `rope_theta` and `rope_scaling`",
            ));
        }
        let file = check_sizes(file)?;
        let chains = Chains::new(file.chains.clone())?;
        let heads = chains.split("num_attention_heads", file.num_attention_heads)?;
        let kv_heads = split_kv_heads(&file, architecture, &chains, &heads)?;
        Ok(Self {
            architecture,
            hidden: chains.split("hidden_size", file.hidden_size)?,
            intermediate: chains.split("intermediate_size", file.intermediate_size)?,
            heads,
            kv_heads,
            head_dim: head_dim(&file)?,
            rope_scaling: rope_scaling(&file)?,
            chains,
            file,
        })
    }

    /// k of the n chains of this model.
    ///
    /// # Errors
    /// If `k` is 0 or larger than n.
    pub fn chain_count(&self, k: usize) -> Result<ChainCount, ChainCountError> {
        ChainCount::new(k, self.chains.count())
    }

    /// n, all chains of this model.
    pub fn all_chains(&self) -> ChainCount {
        self.chains.all()
    }

    /// The chain (from 0) whose keys and values chain `i` attends to.
    pub fn kv_owner(&self, i: usize) -> usize {
        self.architecture.kv_owner(i)
    }
}

/// The architectures of a config of some other model, which has no chains.
fn without_chains(json: &str) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Other {
        architectures: Vec<String>,
        chains: Option<AnyJson>,
    }
    let Other { architectures, chains } = parse_text(json).ok()?;
    let ours = [Architecture::Colm, Architecture::ColmAir].map(Architecture::name);
    let other = !architectures.iter().any(|name| ours.contains(&name.as_str()));
    (chains.is_none() && other).then_some(architectures)
}

/// The text of the config at `path`.
pub(crate) fn read_text(path: &Path) -> Result<String, JsonFileError> {
    read_text_up_to(path, MAX_FILE)
}
