//! A folder that appears under its name when it is complete, or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::destination::{final_path, parent};
use super::temporary_name::{Purpose, TemporaryName};
use crate::format::CheckpointError;

/// A folder with a temporary name beside its final one. It is removed when dropped, unless [`Self::finish`] succeeded.
/// A process that is killed leaves it behind, and the final name then still has its old content.
pub(super) struct AtomicFolder {
    partial: PathBuf,
    dir: PathBuf,
    replace: bool,
    _parents: NewParents,
    /// Tells [`remove_stale_folders`](super::remove_stale_folders) that the folder is being written.
    /// None where folders cannot be locked.
    _lock: Option<File>,
}

impl AtomicFolder {
    /// Prepares to write `dir`. An existing folder is an error, unless `replace` is true; then it
    /// stays until the new one is complete.
    pub fn create(dir: &Path, replace: bool) -> Result<Self, CheckpointError> {
        let dir = final_path(dir, replace)?;
        let mut parents = NewParents::default();
        let created = parents.create(&dir).and_then(|()| create_beside(&dir));
        let partial =
            created.map_err(|source| CheckpointError::Write { path: dir.clone(), source })?;
        let lock = File::open(&partial).ok().filter(|folder| folder.try_lock().is_ok());
        Ok(Self { partial, dir, replace, _parents: parents, _lock: lock })
    }

    /// The path of file `name` until [`Self::finish`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.partial.join(name)
    }

    /// Writes a text file that ends with a newline.
    pub fn write_text(&self, name: &str, text: &str) -> Result<(), CheckpointError> {
        self.write_bytes(name, format!("{text}\n").as_bytes())
    }

    /// Writes a file.
    pub fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        let path = self.path(name);
        fs::create_dir_all(parent(&path))
            .and_then(|()| fs::write(&path, bytes))
            .and_then(|()| File::open(&path)?.sync_all())
            .map_err(|source| CheckpointError::Write { path, source })
    }

    /// Gives the folder its final name. If a folder has that name already, the two exchange names, in one step where
    /// the system supports it, and the old one is removed. So a complete folder has the name at every moment.
    pub fn finish(self) -> Result<(), CheckpointError> {
        let rename = || {
            sync_folder(&self.partial)?;
            let old = self.take_final_name()?;
            sync_folder(parent(&self.dir))?;
            Ok(old)
        };
        let old =
            rename().map_err(|source| CheckpointError::Write { path: self.dir.clone(), source })?;
        match old.map(|old| fs::remove_dir_all(&old).map_err(|error| (old, error))) {
            Some(Err((old, source))) => {
                Err(CheckpointError::OldFolder { dir: self.dir.clone(), old, source })
            }
            _ => Ok(()),
        }
    }

    /// Returns the new path of the folder that had the name before.
    fn take_final_name(&self) -> io::Result<Option<PathBuf>> {
        if self.replace && self.dir.exists() {
            return self.exchange().map(Some);
        }
        match fs::rename(&self.partial, &self.dir) {
            // Another run has finished meanwhile.
            Err(error) if self.replace && is_taken(&error) => self.exchange().map(Some),
            renamed => renamed.map(|()| None),
        }
    }

    /// Returns the new path of the old folder.
    fn exchange(&self) -> io::Result<PathBuf> {
        if exchange_names(&self.partial, &self.dir)? {
            return Ok(self.partial.clone());
        }
        self.exchange_in_two_steps()
    }

    /// If the process is killed between the steps, the old folder remains beside the complete new
    /// one, and neither has the final name.
    fn exchange_in_two_steps(&self) -> io::Result<PathBuf> {
        let old =
            TemporaryName::of_this_process(Purpose::Replaced, next_number()).beside(&self.dir);
        fs::rename(&self.dir, &old)?;
        if let Err(error) = fs::rename(&self.partial, &self.dir) {
            fs::rename(&old, &self.dir)?;
            return Err(error);
        }
        Ok(old)
    }
}

impl Drop for AtomicFolder {
    fn drop(&mut self) {
        // After `finish` there is nothing to remove. Otherwise an error is reported already, and it
        // matters more than one of this clean-up.
        let _ = fs::remove_dir_all(&self.partial);
    }
}

/// The folders above a new one that did not exist before. Those that are still empty are removed when dropped: after
/// an error nothing is left behind.
#[derive(Default)]
struct NewParents(Vec<PathBuf>);

impl NewParents {
    /// Creates the folders above `dir`.
    fn create(&mut self, dir: &Path) -> io::Result<()> {
        let parent = parent(dir);
        let missing = parent.ancestors().take_while(|folder| !folder.exists());
        self.0 = missing.map(Path::to_path_buf).collect();
        fs::create_dir_all(parent)
    }
}

impl Drop for NewParents {
    fn drop(&mut self) {
        // The deepest first, which may not exist. A folder with the new one in it is not empty and stays.
        for folder in &self.0 {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Creates a folder with a temporary name beside `dir`.
fn create_beside(dir: &Path) -> io::Result<PathBuf> {
    loop {
        let partial = TemporaryName::of_this_process(Purpose::Partial, next_number()).beside(dir);
        match fs::create_dir(&partial) {
            // Left by an earlier process with the same id.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            created => return created.map(|()| partial),
        }
    }
}

/// A different number at every call, because threads of one process may write the same folder.
fn next_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Exchanges the names of two folders in one step. Returns false where the system or the file system
/// does not support it.
#[cfg(target_os = "linux")]
fn exchange_names(one: &Path, other: &Path) -> io::Result<bool> {
    use rustix::fs::{renameat_with, RenameFlags, CWD};
    use rustix::io::Errno;
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        // Sandboxes answer unknown system calls with PERM.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn exchange_names(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty)
}

/// Makes the names in `dir` durable, as `sync_all` does for the contents of files.
fn sync_folder(dir: &Path) -> io::Result<()> {
    // Other systems cannot open folders.
    if cfg!(unix) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way taken where names cannot be exchanged in one step.
    #[test]
    fn exchanging_in_two_steps_gives_the_same_result() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("model");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("old"), "").unwrap();
        let new = AtomicFolder::create(&dir, true).unwrap();
        new.write_text("new", "").unwrap();
        let old = new.exchange_in_two_steps().unwrap();
        assert!(dir.join("new").exists() && old.join("old").exists());
        fs::remove_dir_all(old).unwrap();
        drop(new);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// Some of them were never created.
    #[test]
    fn new_parents_are_removed_after_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("new");
        let mut parents = NewParents::default();
        assert!(parents.create(&new.join("x".repeat(300)).join("folder")).is_err());
        assert!(new.exists());
        drop(parents);
        assert!(!new.exists());
    }
}
