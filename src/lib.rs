//! Chain-of-Language-Models (CoLM, CoLM-Air; arXiv 2505.11820) inside the mistral.rs engine.
//!
//! A CoLM splits its hidden state into n chains, and each chain reads only the chains before it. One checkpoint
//! therefore contains n models of growing size. [`Engine`] loads it once and answers every request at the chain count
//! that the request asks for.
//!
//! ```
//! use colm::{Engine, Message, Request};
//!
//! # #[tokio::main]
//! # async fn main() -> colm::Result<()> {
//! let engine = Engine::builder("models/tiny-colm-air").kv_cache_mib(64).start().await?;
//! let question = [Message::user("What is 27 + 58?")];
//! for k in engine.chain_counts() {
//!     let answer = engine.answer(Request::chat(question.clone()).chains(k)).await?;
//!     println!("{k} chains: {}", answer.text);
//!     # assert!(!answer.text.is_empty());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`Engine::chat`], [`Engine::answer`] and [`Engine::stream`] answer requests; [`Engine::score`] and
//!   [`Engine::logits`] return what the model predicts for given tokens.
//! - [`serve`] is the OpenAI API over HTTP.
//! - [`model`] is the model itself, for use without an engine.
//! - [`register`] makes the host's own front ends load CoLM checkpoints.
//!
//! The maths and the checkpoint format are defined in `docs/spec.md`, the parts of the program in
//! `docs/architecture.md`.

#![warn(missing_docs)]

mod answer;
mod error;
mod grammar;
mod host;
mod request;
mod sampling;
mod text;

pub mod model;
pub mod serve;

pub use colm_checkpoint::{ChainCount, ChainCountError, ColmConfig};
pub use colm_kernels::{MatmulPrecision, ParsePrecisionError};
pub use colm_prompt::{Conversation, SamplingDefaults};

pub use answer::{Answer, AnswerToken, FinishReason, Logprobs, Piece, Usage};
pub use error::{Error, Result};
pub use grammar::{Grammar, GrammarError, LlguidanceGrammar};
pub use host::answer_stream::AnswerStream;
pub use host::chain_choice::{model_id_at, parse_chain_count, ParseChainCountError};
pub use host::counters::Counts;
pub use host::dtype::{Dtype, ParseTypeError, Quantization};
pub use host::engine::Engine;
pub use host::engine_builder::EngineBuilder;
pub use host::kv_pool::kv_bytes_per_token;
pub use host::kv_tier::{KvStoreOptions, PrefillServerOptions};
pub use host::loader::register;
pub use host::memory::MachineMemory;
pub use host::memory_plan::MemoryPlan;
pub use request::{LogitsProcessor, Message, Prompt, Request};
pub use sampling::{Dry, Sampling};
