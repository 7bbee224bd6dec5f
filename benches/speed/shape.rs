//! Model shapes, and dtypes of the weights.

use clap::ValueEnum;
use colm_checkpoint::Architecture;
use mistralrs_core::{IsqType, ModelDType};
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

/// The size of all models of a setting: they all have this width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Hidden 1024, 8 layers: 138 million weights as a Llama, in f32.
    Small,
    /// Hidden 2048, 16 layers: a billion weights as a Llama, in bf16.
    Large,
    /// The shape of Qwen2.5-0.5B: biases of q, k and v, a vocabulary of 151,936 and a tied head, in bf16.
    Qwen,
}

impl Shape {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
            Self::Qwen => "qwen",
        }
    }

    /// The dtypes that are measured by default.
    pub fn default_weights(self) -> Vec<Weights> {
        match self {
            Self::Small => vec![Weights::F32, Weights::Q8_0, Weights::Q4k],
            Self::Large | Self::Qwen => vec![Weights::Bf16, Weights::Q8_0, Weights::Q4k],
        }
    }

    /// The dtype of the weight files. Quantized models are quantized from them while loading.
    fn file_dtype(self) -> Weights {
        match self {
            Self::Small => Weights::F32,
            Self::Large | Self::Qwen => Weights::Bf16,
        }
    }
}

/// The dtype of the linear layers and the head in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    F32,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4k")]
    Q4k,
}

impl Weights {
    /// The name on the command line and in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4k => "q4k",
        }
    }

    /// Bytes per weight, including the scales of quantized blocks.
    pub fn bytes(self) -> f64 {
        match self {
            Self::F32 => 4.,
            Self::Bf16 => 2.,
            Self::Q8_0 => 34. / 32.,
            Self::Q4k => 144. / 256.,
        }
    }

    /// The dtype of activations and, in colm and mistral.rs, of the KV cache. Quantized products take f32 activations.
    pub fn dtype(self) -> ModelDType {
        match self {
            Self::Bf16 => ModelDType::BF16,
            Self::F32 | Self::Q8_0 | Self::Q4k => ModelDType::F32,
        }
    }

    /// The in-situ quantization to load with.
    pub fn isq(self) -> Option<IsqType> {
        match self {
            Self::F32 | Self::Bf16 => None,
            Self::Q8_0 => Some(IsqType::Q8_0),
            Self::Q4k => Some(IsqType::Q4K),
        }
    }
}

/// A shape and a dtype of the weights. The contenders of a setting take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub shape: Shape,
    pub weights: Weights,
}

impl Setting {
    /// The name, such as `small-f32`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.shape.name(), self.weights.name())
    }

    /// The dtype of the weight files.
    pub fn file_dtype(&self) -> Weights {
        match self.weights.isq() {
            None => self.weights,
            Some(_) => self.shape.file_dtype(),
        }
    }

    /// The `config.json` of a model with `chains`.
    pub fn config(&self, architecture: Architecture, chains: &[usize]) -> Value {
        let (hidden, intermediate, layers, heads, kv_heads, vocab) = match self.shape {
            Shape::Small => (1024, 4096, 8, 16, 4, 8192),
            Shape::Large => (2048, 8192, 16, 32, 8, 8192),
            Shape::Qwen => (896, 4864, 24, 14, 2, 151_936),
        };
        let is_qwen = self.shape == Shape::Qwen;
        json!({
            "architectures": [architecture.name()],
            "model_type": architecture.model_type(),
            "chains": chains,
            "vocab_size": vocab,
            "hidden_size": hidden,
            "intermediate_size": intermediate,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "hidden_act": "silu",
            "rope_theta": 10_000.0,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "eos_token_id": 0,
            "attention_bias": is_qwen,
            "tie_word_embeddings": is_qwen,
            "torch_dtype": match self.file_dtype() {
                Weights::Bf16 => "bfloat16",
                _ => "float32",
            }
        })
    }
}

/// Prompts are made of the first tokens of the vocabulary.
pub const PROMPT_TOKENS: usize = 8192;
