//! Checks that a path leads to a regular file.

use std::fs::{self, FileType, Metadata};
use std::io::{Error, ErrorKind};
use std::path::Path;

use thiserror::Error;

/// Why a path cannot be read as a regular file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// Nothing is at the path.
    #[error("there is no such file")]
    Missing,
    /// The path is a symbolic link whose target does not exist.
    #[error("it is a dangling symbolic link")]
    DanglingLink,
    /// The path leads to something that is not a regular file.
    #[error("it is {0}; expected a regular file")]
    NotRegular(&'static str),
    /// The path leads to something that is not a folder.
    #[error("it is {0}; expected a folder")]
    NotFolder(&'static str),
    /// The operating system cannot read it.
    #[error("it cannot be read: {0}")]
    Unreadable(#[source] Error),
}

impl From<Error> for FileError {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Missing,
            _ => Self::Unreadable(error),
        }
    }
}

/// The length in bytes of the regular file that `path` leads to.
///
/// Call this before opening a file. Opening a FIFO blocks until something writes to it, and a device may be endless.
pub(crate) fn length(path: &Path) -> Result<u64, FileError> {
    let metadata = metadata(path)?;
    if metadata.is_file() {
        Ok(metadata.len())
    } else {
        Err(FileError::NotRegular(kind(metadata.file_type())))
    }
}

/// The metadata of what `path` leads to.
pub(crate) fn metadata(path: &Path) -> Result<Metadata, FileError> {
    fs::metadata(path).map_err(|error| match FileError::from(error) {
        FileError::Missing if path.is_symlink() => FileError::DanglingLink,
        other => other,
    })
}

/// A file type in words, with its article.
pub(crate) fn kind(file_type: FileType) -> &'static str {
    if file_type.is_dir() {
        return "a folder";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if file_type.is_fifo() {
            return "a FIFO";
        }
        if file_type.is_socket() {
            return "a socket";
        }
        if file_type.is_char_device() || file_type.is_block_device() {
            return "a device";
        }
    }
    if file_type.is_file() {
        "a file"
    } else {
        "a special file"
    }
}
