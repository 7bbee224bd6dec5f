//! config.json as written: the fields of SPEC 3.

use serde::{Deserialize, Serialize};

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
    /// Llama's base of RoPE.
    pub const ROPE_THETA: f64 = 10_000.;

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
            rope_theta: Self::ROPE_THETA,
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
    ConfigFile::ROPE_THETA
}
