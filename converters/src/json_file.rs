//! JSON files, read without trust. What Python's `json.load`, and so transformers, reads of a model's files is
//! read; what is refused is refused by the names of file and field, with what would be right.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::bare_words::quote_bare_words;
use crate::regular_file::{self, NoFile};
use crate::serde_words::in_words;
use crate::shortened::shortened;

/// The longest JSON file that is read, in bytes: several times the longest tokenizer.json.
pub(crate) const MAX_FILE: u64 = 100_000_000;

/// Which JSON file is not read, and why.
#[derive(Debug, Error)]
#[error("{path}: {source}")]
pub struct JsonFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub source: JsonError,
}

/// What is wrong with a JSON file or its text.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum JsonError {
    #[error(transparent)]
    NoFile(#[from] NoFile),
    #[error("it is longer than {most} bytes, which is the most for such a file")]
    TooLong { most: u64 },
    #[error("it is not valid UTF-8 from byte {at} on")]
    NotUtf8 { at: usize },
    #[error("it begins with a byte-order mark; save it as UTF-8 without one")]
    ByteOrderMark,
    /// With line and column.
    #[error("it is not valid JSON: {0}")]
    Syntax(String),
    /// JSON, but of another form than is expected.
    #[error("{0}")]
    Form(String),
    /// The same, of a field: its path from the outermost map, such as `rope_scaling.factor`.
    #[error("`{field}`: {what}")]
    Field { field: String, what: String },
}

impl JsonError {
    pub(crate) fn in_file(self, path: &Path) -> JsonFileError {
        JsonFileError { path: path.into(), source: self }
    }
}

impl From<serde_path_to_error::Error<serde_json::Error>> for JsonError {
    fn from(error: serde_path_to_error::Error<serde_json::Error>) -> Self {
        let field = error.path().to_string();
        let what = shortened(&in_words(&error.inner().to_string())).into_owned();
        match field.as_str() {
            _ if !error.inner().is_data() => Self::Syntax(what),
            // The outermost value.
            "." => Self::Form(what),
            _ => Self::Field { field: shortened(&field).into_owned(), what },
        }
    }
}

/// The text of the regular file at `path`: UTF-8 without a byte-order mark, not longer than 100 MB.
pub fn read_text(path: &Path) -> Result<String, JsonFileError> {
    read_text_up_to(path, MAX_FILE)
}

/// The same, of a file of at most `most` bytes.
pub(crate) fn read_text_up_to(path: &Path, most: u64) -> Result<String, JsonFileError> {
    text_of(path, most).map_err(|error| error.in_file(path))
}

/// The value of the JSON file at `path`; see [`read_text`] and [`parse`].
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, JsonFileError> {
    parse(&read_text(path)?, path)
}

/// The value of `text`, the JSON text of the file at `path`. `NaN`, `Infinity` and `-Infinity`, which Python
/// writes, are read as the strings of these names. Values nested more than 128 deep are refused.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, JsonFileError> {
    parse_text(text).map_err(|error| error.in_file(path))
}

/// As [`parse`], of a text that is of no file.
pub fn parse_text<T: DeserializeOwned>(text: &str) -> Result<T, JsonError> {
    refuse_byte_order_mark(text)?;
    parse_bytes(quote_bare_words(text).as_bytes())
}

/// The value of JSON as it stands in the standard.
pub(crate) fn parse_bytes<T: DeserializeOwned>(json: &[u8]) -> Result<T, JsonError> {
    let mut json = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut json)?;
    json.end().map_err(|error| JsonError::Syntax(error.to_string()))?;
    Ok(value)
}

/// The value of a JSON map.
pub(crate) fn of_map<T: DeserializeOwned>(map: Map<String, Value>) -> Result<T, JsonError> {
    Ok(serde_path_to_error::deserialize(Value::Object(map))?)
}

fn text_of(path: &Path, most: u64) -> Result<String, JsonError> {
    let text = String::from_utf8(read_bytes(path, most)?)
        .map_err(|error| JsonError::NotUtf8 { at: error.utf8_error().valid_up_to() })?;
    refuse_byte_order_mark(&text)?;
    Ok(text)
}

/// The bytes of the regular file at `path`, at most `most`.
pub(crate) fn read_bytes(path: &Path, most: u64) -> Result<Vec<u8>, JsonError> {
    if regular_file::length(path)? > most {
        return Err(JsonError::TooLong { most });
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    // It may have grown.
    if read.map_err(NoFile::from)? as u64 > most {
        return Err(JsonError::TooLong { most });
    }
    Ok(bytes)
}

fn refuse_byte_order_mark(text: &str) -> Result<(), JsonError> {
    match text.starts_with('\u{feff}') {
        true => Err(JsonError::ByteOrderMark),
        false => Ok(()),
    }
}
