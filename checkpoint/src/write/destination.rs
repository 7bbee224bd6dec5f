//! The path of a folder to write.

use std::fs;
use std::path::{Path, PathBuf};

use crate::format::CheckpointError;

/// The final path of folder `dir`. A symbolic link is followed, so that its target is replaced and
/// the link remains. An existing path is an error, unless it is a folder and `replace` is true.
pub(super) fn final_path(dir: &Path, replace: bool) -> Result<PathBuf, CheckpointError> {
    let exists = || CheckpointError::AlreadyExists { path: dir.into() };
    if dir.file_name().is_none() {
        return Err(exists());
    }
    // `components` drops a slash at the end, with which `is_symlink` would look at the target.
    let path: PathBuf = dir.components().collect();
    match (path.is_symlink(), fs::metadata(&path)) {
        (false, Err(_)) => Ok(path),
        (true, Err(_)) => Err(CheckpointError::DanglingLink { path: dir.into() }),
        (_, Ok(metadata)) if !(replace && metadata.is_dir()) => Err(exists()),
        (false, Ok(_)) => Ok(path),
        (true, Ok(_)) => {
            path.canonicalize().map_err(|source| CheckpointError::Read { path: dir.into(), source })
        }
    }
}

/// The folder that contains `dir`; the current folder for a relative name.
pub(super) fn parent(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Checks that neither folder contains the other, so that the source is neither changed nor replaced.
pub(super) fn check_no_overlap(source: &Path, dir: &Path) -> Result<(), CheckpointError> {
    let overlap = || CheckpointError::Overlap { source_dir: source.into(), dir: dir.into() };
    let Ok(source) = source.canonicalize() else {
        return Ok(()); // It was removed since it was opened.
    };
    // A path that does not exist yet cannot be canonicalized, but its nearest existing ancestor can.
    let existing = std::iter::successors(Some(dir), |dir| Some(parent(dir)))
        .find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)));
    match existing {
        Some((_, ancestor)) if ancestor.starts_with(&source) => Err(overlap()),
        Some((ancestor, canonical)) if ancestor == dir && source.starts_with(&canonical) => {
            Err(overlap())
        }
        _ => Ok(()),
    }
}
