//! config.json: the fields of SPEC 3, what follows from them, and every refusal in one place.

use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::chains::{Chains, Split};

/// The largest value of any size in a config: far above any model, and small enough that a product
/// of two sizes in bytes fits 64 bits.
pub(crate) const MAX_SIZE: usize = i32::MAX as usize;

/// Why a config is refused. Each message names the field and what would be right.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum ConfigError {
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path}: {source}")]
    In { path: PathBuf, source: Box<ConfigError> },
    /// Names the field, unless it is one that is missing: then its source does.
    #[error("not a CoLM config: {0}")]
    Json(#[from] serde_path_to_error::Error<serde_json::Error>),
    #[error(
        "`architectures` is {0:?}; expected [\"CoLMForCausalLM\"] or [\"CoLMAirForCausalLM\"]"
    )]
    Architecture(Vec<String>),
    #[error(
        "`architectures` is {0:?}, a model without `chains`; `colm-convert expand` makes a Llama, Mistral or \
         Qwen2 the first chains of a CoLM"
    )]
    WithoutChains(Vec<String>),
    #[error("`chains` is empty; expected one relative size per chain, such as [1, 1]")]
    NoChains,
    #[error("`chains`: chain {chain} has size 0; every chain needs at least 1")]
    EmptyChain { chain: usize },
    #[error("`chains` = {0:?}: the relative sizes sum to more than {MAX_SIZE}; divide them by a common factor")]
    ChainsTooLarge(Vec<usize>),
    #[error(
        "`{field}` = {width} cannot be split over chains {chains:?}: \
         chain {chain} would not get a whole number of at least 1"
    )]
    Indivisible { field: &'static str, width: usize, chains: Vec<usize>, chain: usize },
    #[error("`{field}` = {value}: {expected}")]
    Value { field: &'static str, value: String, expected: String },
}

impl ConfigError {
    pub(crate) fn in_file(self, path: &Path) -> Self {
        Self::In { path: path.into(), source: Box::new(self) }
    }
}

/// The two architectures of SPEC 2. They differ in who owns keys and values, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// Every chain owns its own keys and values.
    #[serde(rename = "CoLMForCausalLM")]
    Colm,
    /// Chain 1 owns all keys and values; every chain reads them.
    #[serde(rename = "CoLMAirForCausalLM")]
    ColmAir,
}

impl Architecture {
    /// The name in `architectures`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Colm => "CoLMForCausalLM",
            Self::ColmAir => "CoLMAirForCausalLM",
        }
    }

    /// The name in `model_type`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Colm => "colm",
            Self::ColmAir => "colm_air",
        }
    }

    /// The chain (from 0) whose keys and values chain `i` attends to.
    pub fn kv_owner(self, i: usize) -> usize {
        match self {
            Self::Colm => i,
            Self::ColmAir => 0,
        }
    }
}

/// Llama 3's frequency rescaling, `rope_scaling` in config.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RopeScaling {
    /// "llama3", or "default" for none.
    #[serde(alias = "type")]
    pub rope_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_freq_factor: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_freq_factor: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_max_position_embeddings: Option<usize>,
}

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

/// config.json as written: Llama's fields plus `chains` (SPEC 3).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ConfigFile {
    /// One of [`Architecture::name`].
    pub architectures: Vec<String>,
    /// The matching [`Architecture::model_type`].
    pub model_type: String,
    /// The relative sizes of the chains.
    pub chains: Vec<usize>,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// As in Llama: `num_attention_heads` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<usize>,
    /// `hidden_size / num_attention_heads` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    #[serde(default = "silu")]
    pub hidden_act: String,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    #[serde(default = "ten_thousand")]
    pub rope_theta: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    #[serde(default)]
    pub tie_word_embeddings: bool,
    #[serde(default)]
    pub attention_bias: bool,
    #[serde(default)]
    pub mlp_bias: bool,
    /// What the host and other tools read and CoLM does not: torch_dtype, token ids, quantization_config ...
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl ConfigFile {
    /// A config to fill in, with `..`: Llama's defaults, no biases, and sizes of 0, which are refused.
    pub fn of(architecture: Architecture, chains: Vec<usize>) -> Self {
        Self {
            architectures: vec![architecture.name().into()],
            model_type: architecture.model_type().into(),
            chains,
            vocab_size: 0,
            hidden_size: 0,
            intermediate_size: 0,
            num_hidden_layers: 0,
            num_attention_heads: 0,
            num_key_value_heads: None,
            head_dim: None,
            hidden_act: silu(),
            max_position_embeddings: 0,
            rms_norm_eps: 1e-5,
            rope_theta: ten_thousand(),
            rope_scaling: None,
            tie_word_embeddings: false,
            attention_bias: false,
            mlp_bias: false,
            other: Default::default(),
        }
    }
}

fn silu() -> String {
    "silu".into()
}

fn ten_thousand() -> f64 {
    10_000.
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
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let mut track = serde_path_to_error::Track::new();
        let at_path = serde_path_to_error::Deserializer::new(&mut deserializer, &mut track);
        let file = ConfigFile::deserialize(at_path)
            .and_then(|file| deserializer.end().map(|()| file))
            .map_err(|source| match without_chains(json) {
                Some(architectures) => ConfigError::WithoutChains(architectures),
                None => serde_path_to_error::Error::new(track.path(), source).into(),
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
        chains: Option<IgnoredAny>,
    }
    let Other { architectures, chains } = serde_json::from_str(json).ok()?;
    let ours = [Architecture::Colm, Architecture::ColmAir].map(Architecture::name);
    let other = !architectures.iter().any(|name| ours.contains(&name.as_str()));
    (chains.is_none() && other).then_some(architectures)
}

/// The text of the config at `path`.
pub(crate) fn read_text(path: &Path) -> Result<String, ConfigError> {
    crate::json::read_text(path)
        .map_err(|source| ConfigError::Unreadable { path: path.into(), source })
}

pub(crate) fn refuse(
    field: &'static str,
    value: &(impl ToString + ?Sized),
    expected: impl Into<String>,
) -> ConfigError {
    ConfigError::Value { field, value: value.to_string(), expected: expected.into() }
}

fn check_sizes(file: ConfigFile) -> Result<ConfigFile, ConfigError> {
    let sizes = [
        ("vocab_size", Some(file.vocab_size)),
        ("hidden_size", Some(file.hidden_size)),
        ("intermediate_size", Some(file.intermediate_size)),
        ("num_hidden_layers", Some(file.num_hidden_layers)),
        ("num_attention_heads", Some(file.num_attention_heads)),
        ("num_key_value_heads", file.num_key_value_heads),
        ("head_dim", file.head_dim),
        ("max_position_embeddings", Some(file.max_position_embeddings)),
    ];
    for (field, size) in sizes {
        if let Some(size) = size.filter(|size| !(1..=MAX_SIZE).contains(size)) {
            return Err(refuse(field, &size, format!("expected 1 to {MAX_SIZE}")));
        }
    }
    for (field, value) in [("rms_norm_eps", file.rms_norm_eps), ("rope_theta", file.rope_theta)] {
        positive(field, Some(value))?;
    }
    if let Some(head_dim) = file.head_dim {
        let columns =
            file.num_attention_heads.max(file.num_key_value_heads.unwrap_or(1)) * head_dim;
        if columns > MAX_SIZE {
            return Err(refuse(
                "head_dim",
                &head_dim,
                format!("times the number of heads, expected at most {MAX_SIZE}"),
            ));
        }
    }
    Ok(file)
}

fn head_dim(file: &ConfigFile) -> Result<usize, ConfigError> {
    let head_dim = match file.head_dim {
        Some(head_dim) => head_dim,
        None if file.hidden_size.is_multiple_of(file.num_attention_heads) => {
            file.hidden_size / file.num_attention_heads
        }
        None => {
            return Err(refuse(
                "hidden_size",
                &file.hidden_size,
                format!(
                    "not a multiple of num_attention_heads = {}; give head_dim",
                    file.num_attention_heads
                ),
            ))
        }
    };
    if head_dim == 0 || !head_dim.is_multiple_of(2) {
        return Err(refuse("head_dim", &head_dim, "RoPE rotates halves: expected an even number"));
    }
    Ok(head_dim)
}

fn split_kv_heads(
    file: &ConfigFile,
    architecture: Architecture,
    chains: &Chains,
    heads: &Split,
) -> Result<Split, ConfigError> {
    let kv = file.num_key_value_heads.unwrap_or(file.num_attention_heads);
    let kv_heads = match architecture {
        Architecture::Colm => chains.split("num_key_value_heads", kv)?,
        Architecture::ColmAir => Split::all_in_first(kv, chains.count()),
    };
    for i in 0..chains.count() {
        let shared_by = kv_heads.of(architecture.kv_owner(i));
        if !heads.of(i).is_multiple_of(shared_by) {
            return Err(refuse(
                "num_attention_heads",
                &file.num_attention_heads,
                format!(
                    "chain {} has {} heads, expected a multiple of the {shared_by} key/value heads it reads",
                    i + 1,
                    heads.of(i)
                ),
            ));
        }
    }
    Ok(kv_heads)
}

fn rope_scaling(file: &ConfigFile) -> Result<Option<Llama3Scaling>, ConfigError> {
    let Some(scaling) = &file.rope_scaling else {
        return Ok(None);
    };
    match scaling.rope_type.as_str() {
        "default" => Ok(None),
        "llama3" => llama3(scaling).map(Some),
        other => Err(refuse("rope_scaling.rope_type", other, "expected \"llama3\" or \"default\"")),
    }
}

fn llama3(scaling: &RopeScaling) -> Result<Llama3Scaling, ConfigError> {
    let low_freq_factor = positive("rope_scaling.low_freq_factor", scaling.low_freq_factor)?;
    let high_freq_factor = positive("rope_scaling.high_freq_factor", scaling.high_freq_factor)?;
    // Between the two wavelengths the rescaling interpolates over their difference.
    if high_freq_factor <= low_freq_factor {
        return Err(refuse(
            "rope_scaling.high_freq_factor",
            &high_freq_factor,
            format!("expected more than low_freq_factor = {low_freq_factor}"),
        ));
    }
    let field = "rope_scaling.original_max_position_embeddings";
    let original = scaling
        .original_max_position_embeddings
        .ok_or_else(|| refuse(field, "absent", "expected a positive number"))?;
    if !(1..=MAX_SIZE).contains(&original) {
        return Err(refuse(field, &original, format!("expected 1 to {MAX_SIZE}")));
    }
    Ok(Llama3Scaling {
        factor: positive("rope_scaling.factor", scaling.factor)?,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings: original,
    })
}

fn positive(field: &'static str, value: Option<f64>) -> Result<f64, ConfigError> {
    match value {
        Some(value) if value.is_finite() && value > 0. => Ok(value),
        Some(value) => Err(refuse(field, &value, "expected a positive number")),
        None => Err(refuse(field, "absent", "expected a positive number")),
    }
}
