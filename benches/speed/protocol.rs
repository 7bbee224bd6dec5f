//! What the benchmark and the process of a contender say to each other: one line of JSON at a time,
//! over the process's standard input and output. `llama_peer.py` speaks the same.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

use super::shape::Weights;

/// The first line: what to load. The answer is [`Reply::Ready`] or [`Reply::Error`].
#[derive(Serialize, Deserialize)]
pub struct Start {
    pub engine: EngineKind,
    /// A model folder; for llama.cpp a GGUF file.
    pub model: PathBuf,
    pub weights: Weights,
    /// How many chains to load; all if None.
    pub max_chains: Option<usize>,
    /// How many sequences run at once.
    pub sequences: usize,
    /// Positions for which the KV cache must have room, all sequences together.
    pub tokens: usize,
}

/// Who computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    Colm,
    HostLlama,
    LlamaCpp,
}

/// Requests that come at once. The answer is [`Reply::Answers`] or [`Reply::Error`].
#[derive(Serialize, Deserialize)]
pub struct Task {
    /// k; None for engines without chains.
    pub chains: Option<usize>,
    pub requests: Vec<Ask>,
}

/// One request.
#[derive(Clone, Serialize, Deserialize)]
pub struct Ask {
    pub prompt: Vec<u32>,
    pub new_tokens: usize,
}

/// What the process answers to a line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The model is loaded and takes requests.
    Ready {
        /// From before the files are opened.
        load_ms: f64,
    },
    Answers {
        answers: Vec<Times>,
        /// The most resident memory so far, MiB; None where the operating system does not tell.
        peak_mib: Option<f64>,
    },
    Error(String),
}

/// When the first and the last new token of a request came, in milliseconds since the task began.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Times {
    pub first_ms: f64,
    pub last_ms: f64,
}
