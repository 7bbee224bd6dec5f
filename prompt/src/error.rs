//! The error of reading a model folder.

use std::path::{Path, PathBuf};

use colm_checkpoint::abbreviate;
use colm_checkpoint::json::JsonFileError;
use thiserror::Error;

/// Why the tokenizer, the chat template or the generation config of a folder cannot be used. Each
/// message names the file, and the field where there is one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FolderError {
    /// A file that is missing, unreadable or not valid JSON.
    #[error(transparent)]
    Json(#[from] JsonFileError),
    /// A field with a value that cannot be used.
    #[error("{}: `{field}`: {what}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What is wrong with it, and what is expected.
        what: String,
    },
    /// A file that cannot be used as a whole.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what is expected.
        what: String,
    },
}

/// Whether `path` exists. A dangling link counts as existing, so that reading it gives an error.
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

impl FolderError {
    pub(crate) fn field(path: &Path, field: &str, what: impl Into<String>) -> Self {
        let (field, what) = (abbreviate(field).into_owned(), abbreviate(&what.into()).into_owned());
        Self::Field { path: path.into(), field, what }
    }

    pub(crate) fn file(path: &Path, what: impl Into<String>) -> Self {
        Self::File { path: path.into(), what: abbreviate(&what.into()).into_owned() }
    }
}
