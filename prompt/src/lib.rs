//! The prompt a model was trained on: what transformers makes of a model folder and a conversation.
//!
//! [`PromptFolder`] reads the tokenizer, the chat template and the generation config of a folder. Its
//! [`ChatTemplate`] renders a conversation, its tokenizer makes tokens of the text. The files are untrusted: what is
//! wrong is an error that names file and field.
#![warn(missing_docs)]

pub mod chat_template;
pub mod error;
pub mod folder;
pub mod generation_config;
pub mod panics;
pub mod special_tokens;
pub mod token_bytes;

mod continuing;
mod eos;
mod probe;
mod tokenizer;

pub use chat_template::{ChatTemplate, Conversation, RenderError, TemplateError};
pub use error::FolderError;
pub use folder::{ModelFacts, PromptFolder};
pub use generation_config::SamplingDefaults;
pub use token_bytes::TokenText;
pub use tokenizers;
