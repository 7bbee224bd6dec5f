//! Builds the same prompts from a model folder and a conversation as transformers.
//!
//! [`PromptFolder`] reads the tokenizer, the chat template and the generation config of a folder. Its
//! [`ChatTemplate`] renders a conversation, and its tokenizer encodes the text. The files are untrusted: errors name the
//! file and the field.
#![warn(missing_docs)]

pub mod chat_template;
pub mod error;
pub mod folder;
pub mod generation_config;
pub mod panics;
pub mod special_tokens;
pub mod token_bytes;

mod continuing;
mod encode;
mod eos;
mod growth;
mod probe;
mod tokenizer;

pub use chat_template::{ChatTemplate, Conversation, RenderError, TemplateError};
pub use encode::encode;
pub use error::FolderError;
pub use folder::{ModelFacts, PromptFolder};
pub use generation_config::SamplingDefaults;
pub use token_bytes::TokenText;
pub use tokenizers;
