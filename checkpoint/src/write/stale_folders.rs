//! Folders that killed processes left behind.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::destination::{canonical, parent};
use super::temporary_name::{Purpose, TemporaryName};

/// A folder with a temporary name, left behind or still being written.
#[derive(Debug)]
pub struct StaleFolder {
    /// The path: `DIR.partial-PID-N` or `DIR.replaced-PID-N`.
    pub path: PathBuf,
    /// Whether it was removed.
    pub removal: Removal,
}

/// Whether [`remove_stale_folders`] removed a folder.
#[derive(Debug)]
pub enum Removal {
    /// It was removed.
    Removed,
    /// It was kept: a process with its id runs, or a process holds its lock.
    InUse,
    /// It was kept: a process was about to replace it, and nothing is at the final name.
    OnlyCopy,
    /// It could not be removed.
    Failed(io::Error),
}

/// Removes the folders that killed processes left beside `dir`.
///
/// A folder is kept if a process with the id in its name runs. That process may be another one that got the same id
/// later; the two cannot be distinguished. A folder that was about to be replaced is removed only if `dir` exists.
pub fn remove_stale_folders(dir: &Path) -> Vec<StaleFolder> {
    // Links are followed, as they are for writing. Where nothing can be written, nothing was left.
    let Ok(dir) = canonical(dir) else {
        return Vec::new();
    };
    let entries = fs::read_dir(parent(&dir)).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| {
            let name = TemporaryName::parse(&entry.file_name(), &dir)?;
            let path = entry.path();
            Some(StaleFolder { removal: remove(&path, &name, &dir), path })
        })
        .collect();
    folders.sort_by(|one, other| one.path.cmp(&other.path));
    folders
}

fn remove(path: &Path, name: &TemporaryName, dir: &Path) -> Removal {
    if is_running(name.process) || is_locked(path) {
        return Removal::InUse;
    }
    if name.purpose == Purpose::Replaced && !dir.exists() {
        return Removal::OnlyCopy;
    }
    match fs::remove_dir_all(path) {
        Ok(()) => Removal::Removed,
        Err(error) => Removal::Failed(error),
    }
}

/// Whether a process with this id runs.
#[cfg(unix)]
fn is_running(process: u32) -> bool {
    let pid = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    match pid.map(rustix::process::test_kill_process) {
        // No process has id 0 or one above i32::MAX.
        None => false,
        Some(found) => found != Err(rustix::io::Errno::SRCH),
    }
}

#[cfg(not(unix))]
fn is_running(_: u32) -> bool {
    true
}

/// Whether a process holds the lock of a folder. The id of a process in another container or on
/// another machine means nothing here, but its lock may be visible.
fn is_locked(path: &Path) -> bool {
    let locked = File::open(path).map(|folder| folder.try_lock());
    matches!(locked, Ok(Err(TryLockError::WouldBlock)))
}
