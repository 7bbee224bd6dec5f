//! A checked config.

use std::path::Path;

use serde::Deserialize;

use super::architecture::Architecture;
use super::chain_count::{ChainCount, ChainCountError};
use super::chain_widths;
use super::chains::{Chains, Split};
use super::checks::{check_names, check_sizes, head_dim, split_kv_heads};
use super::error::{invalid, ConfigError};
use super::fields::Fields;
use super::file::ConfigFile;
use super::rope_fields::RopeFields;
use super::rope_scaling::{rope_scaling, Llama3Scaling};
use crate::json::{parse_object, parse_text, read_text_up_to, AnyValue, JsonFileError};

/// The longest config.json that is read, in bytes: hundreds of times the usual length.
const MAX_FILE: u64 = 10_000_000;

/// A config that follows `docs/spec.md#config`, with every width split over the chains.
#[derive(Clone, Debug)]
pub struct ColmConfig {
    /// The fields as written.
    pub file: ConfigFile,
    /// CoLM or CoLM-Air.
    pub architecture: Architecture,
    /// The relative sizes of the chains.
    pub chains: Chains,
    /// `hidden_size`, split over the chains.
    pub hidden: Split,
    /// `intermediate_size`, split over the chains.
    pub intermediate: Split,
    /// The query heads, split over the chains.
    pub heads: Split,
    /// The key/value heads. In CoLM they are split over the chains, in Air all belong to chain 1.
    pub kv_heads: Split,
    /// Elements of a query, key or value head, an even number.
    pub head_dim: usize,
    /// Llama 3's rescaling; None for plain RoPE.
    pub rope_scaling: Option<Llama3Scaling>,
}

impl ColmConfig {
    /// Reads and checks the config.json at `path`.
    ///
    /// # Errors
    /// If the file cannot be read, is longer than 10 MB, or breaks a rule of `docs/spec.md#config`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read_text(path)?).map_err(|source| source.in_file(path))
    }

    /// Checks the text of a config.json.
    ///
    /// # Errors
    /// If it breaks a rule of `docs/spec.md#config`. The error names the field.
    pub fn parse(json: &str) -> Result<Self, ConfigError> {
        // This also finds repeated fields, of which serde would silently keep the last.
        let fields: Fields = parse_text(json)?;
        let rope = RopeFields::of(&fields);
        Self::from_fields(fields, json).map_err(|error| rope.name_as_written(error))
    }

    /// The config of `json`, whose fields are `fields`. Errors name RoPE's fields `rope_theta` and
    /// `rope_scaling`.
    fn from_fields(mut fields: Fields, json: &str) -> Result<Self, ConfigError> {
        // Serde would take a list for the values of an object, in the order of its fields.
        if let Some(widths) = fields.get("chain_widths").filter(|widths| !widths.is_object()) {
            return Err(invalid("chain_widths", widths, "expected a map with a list per width"));
        }
        let rewritten = ["rope_parameters", "rope_scaling", "partial_rotary_factor", "dtype"];
        let file = match rewritten.iter().find_map(|field| fields.get(field)) {
            Some(_) => {
                RopeFields::normalize(&mut fields)?;
                fields.rename_dtype()?;
                parse_object(fields.into_map())
            }
            // Parsing the text again puts line and column into errors.
            None => parse_text(json),
        };
        let file = file.map_err(|error| match architectures_of_other_model(json) {
            Some(architectures) => ConfigError::NoChainsField(architectures),
            None => error.into(),
        })?;
        Self::new(file)
    }

    /// Checks a config and splits its widths.
    ///
    /// # Errors
    /// If it breaks a rule of `docs/spec.md#config`. The error names the field.
    pub fn new(file: ConfigFile) -> Result<Self, ConfigError> {
        let architecture = check_names(&file)?;
        check_sizes(&file)?;
        let chains = Chains::new(file.chains.clone())?;
        let widths = file.chain_widths.clone().unwrap_or_default();
        let split = |field, width, shares: &Option<Vec<usize>>| {
            chain_widths::split(&chains, field, width, shares.as_deref())
        };
        let heads =
            split("num_attention_heads", file.num_attention_heads, &widths.num_attention_heads)?;
        let kv_heads = split_kv_heads(&file, architecture, &chains, &widths, &heads)?;
        Ok(Self {
            architecture,
            hidden: split("hidden_size", file.hidden_size, &widths.hidden_size)?,
            intermediate: split(
                "intermediate_size",
                file.intermediate_size,
                &widths.intermediate_size,
            )?,
            heads,
            kv_heads,
            head_dim: head_dim(&file)?,
            rope_scaling: rope_scaling(file.rope_scaling.as_ref())?,
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

/// The `architectures` of `json` if it is the config of another model, without `chains`.
fn architectures_of_other_model(json: &str) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Other {
        architectures: Vec<String>,
        chains: Option<AnyValue>,
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
