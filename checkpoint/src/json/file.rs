//! Reading and parsing JSON files.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use thiserror::Error;

use super::error_message::in_words;
use super::non_finite::quote_non_finite;
use crate::regular_file::{self, FileError};
use crate::text::abbreviate;

/// The longest JSON file that is read, in bytes. The longest tokenizer.json in use is several times shorter.
pub(crate) const MAX_FILE: u64 = 100_000_000;

/// A JSON file that cannot be read.
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
#[non_exhaustive]
pub enum JsonError {
    /// There is no regular file, or it cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is too long.
    #[error("it is longer than {most} bytes, the limit for such a file")]
    TooLong {
        /// The limit in bytes.
        most: u64,
    },
    /// The file is not UTF-8.
    #[error("it is not valid UTF-8 from byte {at} on")]
    NotUtf8 {
        /// The first byte that is not UTF-8.
        at: usize,
    },
    /// The text begins with a byte-order mark.
    #[error("it begins with a byte-order mark; save it as UTF-8 without one")]
    ByteOrderMark,
    /// The text is not JSON. The message gives line and column.
    #[error("it is not valid JSON: {0}")]
    Syntax(String),
    /// The outermost value has another type than is expected.
    #[error("{0}")]
    Type(String),
    /// A field has another type than is expected.
    #[error("`{field}`: {what}")]
    Field {
        /// The path of the field from the outermost map, such as `rope_scaling.factor`.
        field: String,
        /// What is wrong.
        what: String,
    },
}

impl JsonError {
    pub(crate) fn in_file(self, path: &Path) -> JsonFileError {
        JsonFileError { path: path.into(), source: self }
    }
}

impl From<serde_path_to_error::Error<serde_json::Error>> for JsonError {
    fn from(error: serde_path_to_error::Error<serde_json::Error>) -> Self {
        let field = error.path().to_string();
        let what = abbreviate(&in_words(&error.inner().to_string())).into_owned();
        match field.as_str() {
            _ if !error.inner().is_data() => Self::Syntax(what),
            // The outermost value.
            "." => Self::Type(what),
            _ => Self::Field { field: abbreviate(&field).into_owned(), what },
        }
    }
}

/// The text of the file at `path`.
///
/// # Errors
/// If the file is not a regular file, is longer than 100 MB, is not UTF-8 or begins with a byte-order mark.
pub fn read_text(path: &Path) -> Result<String, JsonFileError> {
    read_text_up_to(path, MAX_FILE)
}

/// As [`read_text`], with a limit of `most` bytes.
pub(crate) fn read_text_up_to(path: &Path, most: u64) -> Result<String, JsonFileError> {
    text_of(path, most).map_err(|error| error.in_file(path))
}

/// The value of the JSON file at `path`.
///
/// # Errors
/// Those of [`read_text`] and [`parse`].
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, JsonFileError> {
    parse(&read_text(path)?, path)
}

/// The value of `text`, the JSON text of the file at `path`. `NaN`, `Infinity` and `-Infinity`,
/// which Python writes, become the strings of these names.
///
/// # Errors
/// If `text` is not JSON, nests values more than 128 deep, or does not describe a `T`.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, JsonFileError> {
    parse_text(text).map_err(|error| error.in_file(path))
}

/// As [`parse`], for a text that comes from no file.
///
/// # Errors
/// As [`parse`].
pub fn parse_text<T: DeserializeOwned>(text: &str) -> Result<T, JsonError> {
    check_byte_order_mark(text)?;
    parse_bytes(quote_non_finite(text).as_bytes())
}

/// The value of standard JSON.
pub(crate) fn parse_bytes<T: DeserializeOwned>(json: &[u8]) -> Result<T, JsonError> {
    let mut json = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut json)?;
    json.end().map_err(|error| JsonError::Syntax(error.to_string()))?;
    Ok(value)
}

/// The value of a JSON object that is already parsed.
pub(crate) fn parse_object<T: DeserializeOwned>(map: Map<String, Value>) -> Result<T, JsonError> {
    Ok(serde_path_to_error::deserialize(Value::Object(map))?)
}

fn text_of(path: &Path, most: u64) -> Result<String, JsonError> {
    let text = String::from_utf8(read_bytes(path, most)?)
        .map_err(|error| JsonError::NotUtf8 { at: error.utf8_error().valid_up_to() })?;
    check_byte_order_mark(&text)?;
    Ok(text)
}

/// The bytes of the regular file at `path`, at most `most`.
pub(crate) fn read_bytes(path: &Path, most: u64) -> Result<Vec<u8>, JsonError> {
    if regular_file::length(path)? > most {
        return Err(JsonError::TooLong { most });
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    // The file may have grown since its length was read.
    if read.map_err(FileError::from)? as u64 > most {
        return Err(JsonError::TooLong { most });
    }
    Ok(bytes)
}

fn check_byte_order_mark(text: &str) -> Result<(), JsonError> {
    if text.starts_with('\u{feff}') {
        return Err(JsonError::ByteOrderMark);
    }
    Ok(())
}
