//! JSON files, read without trust.
//!
//! What Python's `json.load` accepts, and so transformers, is accepted here, with two exceptions: nesting deeper than
//! 128 levels and a repeated key where that matters. Every error names the file and the field.

mod any_value;
mod error_message;
mod file;
mod non_finite;
mod object;
mod unique_keys;
mod unique_value;

pub(crate) use any_value::AnyValue;
pub use error_message::in_words;
pub use file::{parse, parse_text, read, read_text, JsonError, JsonFileError};
pub(crate) use file::{parse_bytes, parse_object, read_bytes, read_text_up_to, MAX_FILE};
pub(crate) use object::Object;
pub(crate) use unique_keys::{unique_keys, unique_keys_except};
pub(crate) use unique_value::UniqueValue;
