//! Chain-of-Language-Models (CoLM, CoLM-Air; arXiv 2505.11820) inside the mistral.rs engine.
//!
//! One checkpoint is n models of growing size: its hidden state is split into chains, each seeing
//! only the chains before it. [`Engine`] loads such a checkpoint once and answers every request at
//! the chain count it asks for.

pub mod host;
pub mod model;
pub mod serve;
pub mod text;

pub use colm_prompt::{Conversation, SamplingDefaults};
pub use host::answer::{Answer, AnswerStream, AnswerToken, FinishReason, Piece, Usage};
pub use host::engine::{Engine, EngineOptions};
pub use host::grammar::Grammar;
pub use host::loader::register;
pub use host::request::{Message, Prompt, Request, RequestError};
