//! Builds prompts in the form that a model was trained on: renders a conversation with the chat
//! template of the model's folder and tokenizes it, with the same result as transformers.
//!
//! [`PromptFolder`] reads the tokenizer, the chat template and the generation config of a folder. Its
//! [`ChatTemplate`] renders a conversation as text, and its tokenizer turns the text into tokens. The
//! files are untrusted: errors name the file and the field, and rendering has limits of time and
//! memory. `docs/prompts.md` in the repository lists what is read.
//!
//! # Example
//!
//! ```
//! use std::path::Path;
//!
//! use colm_prompt::{encode, Conversation, ModelFacts, PromptFolder};
//! use serde_json::{json, Map};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-colm-air");
//! let facts = ModelFacts { vocab_size: 768, longest: 1024, config: &Map::new() };
//! let folder = PromptFolder::read(&path, &facts)?;
//!
//! let message = json!({"role": "user", "content": "Sort 93 3 71 18."});
//! let conversation = Conversation {
//!     messages: message.as_object().cloned().into_iter().collect(),
//!     add_generation_prompt: true,
//!     ..Conversation::default()
//! };
//! let prompt = folder.render(conversation).expect("the model has a chat template")?;
//! assert!(prompt.contains("Sort 93 3 71 18."));
//!
//! // The template writes the special tokens, so the tokenizer must not add them again.
//! let tokens = encode(&folder.tokenizer, &prompt, false)?;
//! assert!(!tokens.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! | module | what |
//! |---|---|
//! | `tokenizer` | the tokenizer with its added and special tokens, and the text of every token |
//! | `chat_template` | [`ChatTemplate`]: Jinja templates as transformers renders them |
//! | `folder` | [`PromptFolder`]: reads the files of a model folder; end tokens and sampling defaults |
#![warn(missing_docs)]

mod chat_template;
mod error;
mod folder;
mod tokenizer;

pub use chat_template::{ChatTemplate, Conversation, RenderError, TemplateError};
pub use error::FolderError;
pub use folder::{ModelFacts, PromptFolder, SamplingDefaults};
pub use tokenizer::{encode, SpecialTokens, TokenText};
pub use tokenizers;
