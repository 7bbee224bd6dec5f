//! Files to read: regular ones only.

use std::fs::{self, FileType, Metadata};
use std::io::{Error, ErrorKind};
use std::path::Path;

use thiserror::Error;

/// Why there is no file to read at a path.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum NoFile {
    #[error("there is no such file")]
    Missing,
    #[error("it is a symbolic link that leads nowhere")]
    LinkToNothing,
    #[error("it is {0}; expected a regular file")]
    Kind(&'static str),
    #[error("it is {0}; expected a folder")]
    NoFolder(&'static str),
    #[error("it cannot be read: {0}")]
    Unreadable(#[source] Error),
}

impl From<Error> for NoFile {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Missing,
            _ => Self::Unreadable(error),
        }
    }
}

/// The length of the regular file that `path` leads to. To be asked before the file is opened:
/// opening a FIFO waits for somebody to write to it, and a device may give bytes without end.
pub(crate) fn length(path: &Path) -> Result<u64, NoFile> {
    let metadata = metadata(path)?;
    match metadata.is_file() {
        true => Ok(metadata.len()),
        false => Err(NoFile::Kind(kind(metadata.file_type()))),
    }
}

/// Of what `path` leads to.
pub(crate) fn metadata(path: &Path) -> Result<Metadata, NoFile> {
    fs::metadata(path).map_err(|error| match NoFile::from(error) {
        NoFile::Missing if path.is_symlink() => NoFile::LinkToNothing,
        other => other,
    })
}

/// What a path leads to, in words.
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
    match file_type.is_file() {
        true => "a file",
        false => "no regular file",
    }
}
