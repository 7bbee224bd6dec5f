//! The shapes that are measured, and how their weights are held.

use clap::ValueEnum;
use colm_checkpoint::Architecture;
use mistralrs_core::{IsqType, ModelDType};
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

/// The size of all models of a run: each contender is a model of this width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Hidden 1024, 8 layers: 138 million weights as a Llama, in f32.
    Small,
    /// Hidden 2048, 16 layers: a billion weights as a Llama, in bf16.
    Large,
}

impl Shape {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }

    /// What is measured at this shape unless the command line says otherwise.
    pub fn default_weights(self) -> Vec<Weights> {
        match self {
            Self::Small => vec![Weights::F32, Weights::Q8_0, Weights::Q4k],
            Self::Large => vec![Weights::Bf16, Weights::Q8_0, Weights::Q4k],
        }
    }

    /// The dtype of the weight files; a quantized model is quantized from them while loading.
    fn file_dtype(self) -> Weights {
        match self {
            Self::Small => Weights::F32,
            Self::Large => Weights::Bf16,
        }
    }
}

/// How the weights of the linear layers and the head are held in memory.
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
    /// As on the command line and in the worker's protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4k => "q4k",
        }
    }

    /// Bytes per weight, the scales of the quantized blocks included.
    pub fn bytes(self) -> f64 {
        match self {
            Self::F32 => 4.,
            Self::Bf16 => 2.,
            Self::Q8_0 => 34. / 32.,
            Self::Q4k => 144. / 256.,
        }
    }

    /// What activations, and the KV cache of our engines, are held in: quantized products take f32.
    pub fn dtype(self) -> ModelDType {
        match self {
            Self::Bf16 => ModelDType::BF16,
            Self::F32 | Self::Q8_0 | Self::Q4k => ModelDType::F32,
        }
    }

    /// Quantization while loading.
    pub fn isq(self) -> Option<IsqType> {
        match self {
            Self::F32 | Self::Bf16 => None,
            Self::Q8_0 => Some(IsqType::Q8_0),
            Self::Q4k => Some(IsqType::Q4K),
        }
    }
}

/// One shape with its weights held in one way: the contenders of a setting take turns with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub shape: Shape,
    pub weights: Weights,
}

impl Setting {
    /// Such as `small-f32`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.shape.name(), self.weights.name())
    }

    /// The dtype that weight files are written in.
    pub fn file_dtype(&self) -> Weights {
        match self.weights.isq() {
            None => self.weights,
            Some(_) => self.shape.file_dtype(),
        }
    }

    /// config.json of a model of `chains`.
    pub fn config(&self, architecture: Architecture, chains: &[usize]) -> Value {
        let (hidden, intermediate, layers, heads, kv_heads) = match self.shape {
            Shape::Small => (1024, 4096, 8, 16, 4),
            Shape::Large => (2048, 8192, 16, 32, 8),
        };
        json!({
            "architectures": [architecture.name()],
            "model_type": architecture.model_type(),
            "chains": chains,
            "vocab_size": VOCAB,
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
            "torch_dtype": match self.file_dtype() {
                Weights::Bf16 => "bfloat16",
                _ => "float32",
            }
        })
    }
}

/// Tokens of the vocabulary at every shape.
pub const VOCAB: usize = 8192;
