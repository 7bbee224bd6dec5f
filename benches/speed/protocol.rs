//! The protocol between the benchmark and a worker process: one JSON value per line, over the standard input and output
//! of the process. `llama_cpp_worker.py` implements it too.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

use super::shape::Weights;

/// The first line: the model to load. The reply is [`Reply::Ready`] or [`Reply::Error`].
#[derive(Serialize, Deserialize)]
pub struct Start {
    pub engine: EngineKind,
    /// A model folder; for llama.cpp a GGUF file.
    pub model: PathBuf,
    pub weights: Weights,
    /// The precision of activations in colm, `f32` or `bf16`; its default if `None`.
    pub matmul_precision: Option<String>,
    /// The number of chains to load; all if `None`.
    pub max_chains: Option<usize>,
    /// The largest number of sequences that run at once.
    pub sequences: usize,
    /// KV cache capacity, in tokens of all sequences together.
    pub tokens: usize,
}

/// The engine that runs the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    Colm,
    HostLlama,
    LlamaCpp,
}

/// Requests that are sent at once. The reply is [`Reply::Answers`] or [`Reply::Error`].
#[derive(Serialize, Deserialize)]
pub struct Batch {
    /// The chain count; `None` for engines without chains.
    pub chains: Option<usize>,
    pub requests: Vec<GenerationRequest>,
}

/// One request: prompt tokens, and the number of tokens to generate.
#[derive(Clone, Serialize, Deserialize)]
pub struct GenerationRequest {
    pub prompt: Vec<u32>,
    pub new_tokens: usize,
}

/// The reply of the worker process to a line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The model is loaded.
    Ready {
        /// Load time, from before the files are opened.
        load_ms: f64,
    },
    Answers {
        answers: Vec<Timing>,
        /// Peak resident memory so far in MiB; `None` where the operating system does not report it.
        peak_mib: Option<f64>,
    },
    Error(String),
}

/// When the first and the last new token of a request arrived, in milliseconds since the batch was sent.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Timing {
    pub first_ms: f64,
    pub last_ms: f64,
}
