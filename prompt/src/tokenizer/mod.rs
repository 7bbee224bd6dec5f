//! The tokenizer of a model folder.

mod continuation;
mod encode;
mod expansion;
mod read;
mod special_tokens;
mod token_text;

pub(crate) use continuation::continuation_tokenizer;
pub use encode::encode;
pub(crate) use read::{read, TOKENIZER};
pub use special_tokens::SpecialTokens;
pub use token_text::TokenText;
pub(crate) use token_text::{token_texts, MAX_TEXT};
