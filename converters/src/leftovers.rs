//! What runs that were killed have left beside a folder.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::new_folder::parent;
use crate::temporary::{Temporary, What};

/// A folder under a temporary name, which some run has left or still writes.
#[derive(Debug)]
pub struct Leftover {
    /// The folder: `DIR.partial-PID-N` or `DIR.replaced-PID-N`.
    pub path: PathBuf,
    /// What has become of it.
    pub fate: Fate,
}

/// What becomes of a leftover.
#[derive(Debug)]
pub enum Fate {
    /// It is removed.
    Removed,
    /// It stays: a process of its number runs, or it is locked, as by whoever writes it.
    InUse,
    /// It stays: it is what a run was about to replace, and nothing stands in its place.
    OnlyCopy,
    /// It cannot be removed.
    Failed(io::Error),
}

/// Removes what runs that were killed have left beside `dir`. What belongs to a process that lives stays,
/// and so does what belonged to a dead one whose number another process has taken: numbers cannot be told
/// apart. A folder that was to be replaced is removed only where `dir` exists.
pub fn remove_leftovers(dir: &Path) -> Vec<Leftover> {
    // Links are followed as the writing follows them.
    let dir = match dir.is_symlink() {
        true => dir.canonicalize().unwrap_or_else(|_| dir.into()),
        false => dir.components().collect(),
    };
    let entries = fs::read_dir(parent(&dir)).into_iter().flatten().flatten();
    let mut leftovers: Vec<_> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| {
            let temporary = Temporary::of_name(&entry.file_name(), &dir)?;
            let path = entry.path();
            Some(Leftover { fate: remove(&path, &temporary, &dir), path })
        })
        .collect();
    leftovers.sort_by(|one, other| one.path.cmp(&other.path));
    leftovers
}

fn remove(path: &Path, temporary: &Temporary, dir: &Path) -> Fate {
    if lives(temporary.process) || is_locked(path) {
        return Fate::InUse;
    }
    if temporary.what == What::Replaced && !dir.exists() {
        return Fate::OnlyCopy;
    }
    match fs::remove_dir_all(path) {
        Ok(()) => Fate::Removed,
        Err(error) => Fate::Failed(error),
    }
}

/// Whether a process of this number runs.
#[cfg(unix)]
fn lives(process: u32) -> bool {
    let pid = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    match pid.map(rustix::process::test_kill_process) {
        // No process has number 0, or one that large.
        None => false,
        Some(found) => found != Err(rustix::io::Errno::SRCH),
    }
}

#[cfg(not(unix))]
fn lives(_: u32) -> bool {
    true
}

/// Whether a process holds the lock of a folder that is written: one of another container or machine has a
/// number that is not known here.
fn is_locked(path: &Path) -> bool {
    let locked = File::open(path).map(|folder| folder.try_lock());
    matches!(locked, Ok(Err(TryLockError::WouldBlock)))
}
