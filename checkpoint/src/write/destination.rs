//! The path of a folder to write.

use std::fs;
use std::io::ErrorKind;
use std::path::{absolute, Component, Path, PathBuf};

use super::links::{entry_through, leads_through};
use crate::format::CheckpointError;

/// The final path of folder `dir`, canonical. A symbolic link is followed, so that its target is replaced and the link
/// remains. An existing path is an error, unless it is a folder and `replace` is true.
pub(super) fn final_path(dir: &Path, replace: bool) -> Result<PathBuf, CheckpointError> {
    let path = canonical(dir)?;
    // `..` and `/` are no names that a new folder could take.
    let is_named = dir.file_name().is_some() && path.file_name().is_some();
    match fs::metadata(&path) {
        Err(_) => Ok(path),
        Ok(metadata) if replace && is_named && metadata.is_dir() => Ok(path),
        Ok(_) => Err(CheckpointError::AlreadyExists { path: dir.into() }),
    }
}

/// The folder that contains `dir`; the current folder for a relative name.
pub(super) fn parent(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The canonical path of `dir`, whose last folders need not exist. It stays right when they are created: `..` after a
/// folder that does not exist is refused, because it would lead elsewhere afterwards.
pub(super) fn canonical(dir: &Path) -> Result<PathBuf, CheckpointError> {
    let unwritable = |source| CheckpointError::Write { path: dir.into(), source };
    let mut existing = PathBuf::new();
    if dir.is_relative() {
        existing = Path::new(".").canonicalize().map_err(unwritable)?;
    }
    let components: Vec<Component> = dir.components().collect();
    for end in 1..=components.len() {
        let ancestor: PathBuf = components[..end].iter().collect();
        match ancestor.canonicalize() {
            Ok(canonical) => existing = canonical,
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(unwritable(error)),
            Err(_) if ancestor.is_symlink() => {
                return Err(CheckpointError::DanglingLink { path: ancestor })
            }
            Err(_) => {
                let new = &components[end - 1..];
                if new.contains(&Component::ParentDir) {
                    let (path, missing) = (dir.into(), ancestor);
                    return Err(CheckpointError::ParentOfMissing { path, missing });
                }
                return Ok(new.iter().fold(existing, |path, name| path.join(name)));
            }
        }
    }
    Ok(existing)
}

/// Checks that neither folder contains the other, and that neither the path of the source nor a link in it leads through
/// `dir`, so that the source is neither changed nor replaced.
pub(super) fn check_no_overlap(source: &Path, dir: &Path) -> Result<(), CheckpointError> {
    let path = canonical(dir)?;
    let Ok(canonical_source) = source.canonicalize() else {
        return Ok(()); // It was removed since it was opened.
    };
    if path.starts_with(&canonical_source) || canonical_source.starts_with(&path) {
        return Err(CheckpointError::Overlap { source_dir: source.into(), dir: dir.into() });
    }
    // Nothing leads through a folder that does not exist.
    let entry = path.exists().then(|| {
        let is_through = absolute(source).is_ok_and(|source| leads_through(&source, &path));
        is_through.then(|| source.into()).or_else(|| entry_through(&canonical_source, &path))
    });
    match entry.flatten() {
        Some(entry) => Err(CheckpointError::LinkedOverlap { entry, dir: dir.into() }),
        None => Ok(()),
    }
}
