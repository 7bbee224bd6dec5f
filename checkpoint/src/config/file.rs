//! config.json as written.

use serde::{Deserialize, Serialize};

use super::architecture::Architecture;
use super::chain_widths::ChainWidths;
use super::rope_scaling::RopeScaling;

/// config.json as written: Llama's fields and `chains` (`docs/spec.md#config`). Nothing is checked
/// until [`ColmConfig::new`](crate::ColmConfig::new).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigFile {
    /// One [`Architecture::name`].
    pub architectures: Vec<String>,
    /// The matching [`Architecture::model_type`].
    pub model_type: String,
    /// The relative sizes of the chains.
    pub chains: Vec<usize>,
    /// The shares of widths that are not split in the proportions of `chains`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_widths: Option<ChainWidths>,
    /// The number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// The width of the hidden vector, over all chains.
    pub hidden_size: usize,
    /// The width of the MLP, over all chains.
    pub intermediate_size: usize,
    /// The number of transformer blocks.
    pub num_hidden_layers: usize,
    /// The number of query heads, over all chains.
    pub num_attention_heads: usize,
    /// The number of key/value heads, over all chains; `num_attention_heads` if None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<usize>,
    /// Elements of a head; `hidden_size / num_attention_heads` if None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// The activation function; only "silu" is supported.
    #[serde(default = "silu")]
    pub hidden_act: String,
    /// The context length, in tokens.
    pub max_position_embeddings: usize,
    /// The epsilon of RMSNorm.
    pub rms_norm_eps: f64,
    /// The base of RoPE.
    #[serde(default = "rope_theta")]
    pub rope_theta: f64,
    /// The rescaling of RoPE; None for plain RoPE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Whether the head shares the weights of the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Whether q, k, v and o have biases.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the heads of q and k are normalized before RoPE, as in Qwen3.
    #[serde(default, skip_serializing_if = "is_false")]
    pub qk_norm: bool,
    /// Whether gate, up and down have biases.
    #[serde(default)]
    pub mlp_bias: bool,
    /// All other fields, such as `torch_dtype`, token ids and `quantization_config`. They are kept
    /// for the host and for other tools.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl ConfigFile {
    /// The default of `rope_theta`, as in Llama.
    pub const ROPE_THETA: f64 = 10_000.;

    /// A config with Llama's defaults and no biases. All sizes are 0 and must be set, usually with
    /// `..`, before [`ColmConfig::new`](crate::ColmConfig::new) accepts it.
    pub fn new(architecture: Architecture, chains: Vec<usize>) -> Self {
        Self {
            architectures: vec![architecture.name().into()],
            model_type: architecture.model_type().into(),
            chains,
            chain_widths: None,
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
            qk_norm: false,
            mlp_bias: false,
            other: Default::default(),
        }
    }
}

// serde passes a reference.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

fn silu() -> String {
    "silu".into()
}

fn rope_theta() -> f64 {
    ConfigFile::ROPE_THETA
}
