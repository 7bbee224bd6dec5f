//! A checkpoint folder that appears when it is complete, or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::CheckpointError;
use crate::temporary::{Temporary, What};

/// A folder under a temporary name beside its final one, removed unless finished. A process that
/// is killed leaves it behind; what stands at the final name is what stood there before.
pub(crate) struct NewFolder {
    partial: PathBuf,
    dir: PathBuf,
    replace: bool,
    /// Tells whoever removes leftovers that this folder is being written. None where folders cannot be locked.
    _lock: Option<File>,
}

impl NewFolder {
    /// Prepares to write `dir`; one that exists is refused, or with `replace` stays until the new
    /// one is complete.
    pub fn create(dir: &Path, replace: bool) -> Result<Self, CheckpointError> {
        let dir = final_name(dir, replace)?;
        let made = fs::create_dir_all(parent(&dir)).and_then(|()| create_beside(&dir));
        let partial =
            made.map_err(|source| CheckpointError::Write { path: dir.clone(), source })?;
        let lock = File::open(&partial).ok().filter(|folder| folder.try_lock().is_ok());
        Ok(Self { partial, dir, replace, _lock: lock })
    }

    /// Where to write file `name` until [`Self::finish`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.partial.join(name)
    }

    /// Writes a text file, with a newline at its end.
    pub fn write_text(&self, name: &str, text: &str) -> Result<(), CheckpointError> {
        self.write_bytes(name, format!("{text}\n").as_bytes())
    }

    /// Writes a file of `bytes`.
    pub fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        let path = self.path(name);
        fs::create_dir_all(parent(&path))
            .and_then(|()| fs::write(&path, bytes))
            .and_then(|()| File::open(&path)?.sync_all())
            .map_err(|source| CheckpointError::Write { path, source })
    }

    /// Gives the folder its name. A folder of that name is exchanged with it in one step where the
    /// system can, and then removed: at every moment one of the two is there, and whole.
    pub fn finish(self) -> Result<(), CheckpointError> {
        let rename = || {
            sync_folder(&self.partial)?;
            let old = self.take_name()?;
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

    /// Returns where the folder is now that had the name before.
    fn take_name(&self) -> io::Result<Option<PathBuf>> {
        if self.replace && self.dir.exists() {
            return self.exchange().map(Some);
        }
        match fs::rename(&self.partial, &self.dir) {
            // Another run has finished in this moment.
            Err(error) if self.replace && is_taken(&error) => self.exchange().map(Some),
            renamed => renamed.map(|()| None),
        }
    }

    /// Returns where the old folder is now.
    fn exchange(&self) -> io::Result<PathBuf> {
        if exchange_names(&self.partial, &self.dir)? {
            return Ok(self.partial.clone());
        }
        self.exchange_in_two_steps()
    }

    /// Killed in between, the old folder stands beside the complete new one.
    fn exchange_in_two_steps(&self) -> io::Result<PathBuf> {
        let old = Temporary::of_this_process(What::Replaced, number()).beside(&self.dir);
        fs::rename(&self.dir, &old)?;
        if let Err(error) = fs::rename(&self.partial, &self.dir) {
            fs::rename(&old, &self.dir)?;
            return Err(error);
        }
        Ok(old)
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        // Gone already when finished; when not, the failure that ended the writing matters more
        // than one in cleaning up.
        let _ = fs::remove_dir_all(&self.partial);
    }
}

/// Where a folder `dir` is to stand. A symbolic link is followed: what it leads to is replaced, and the link
/// stays. Refuses what exists, but for a folder if it may be replaced.
pub(crate) fn final_name(dir: &Path, replace: bool) -> Result<PathBuf, CheckpointError> {
    let exists = || CheckpointError::Exists { path: dir.into() };
    if dir.file_name().is_none() {
        return Err(exists());
    }
    // Without a slash at its end, behind which a link would not be seen.
    let name: PathBuf = dir.components().collect();
    match (name.is_symlink(), fs::metadata(&name)) {
        (false, Err(_)) => Ok(name),
        (true, Err(_)) => Err(CheckpointError::LinkToNothing { path: dir.into() }),
        (_, Ok(metadata)) if !(replace && metadata.is_dir()) => Err(exists()),
        (false, Ok(_)) => Ok(name),
        (true, Ok(_)) => {
            name.canonicalize().map_err(|source| CheckpointError::Read { path: dir.into(), source })
        }
    }
}

/// The folder that holds `dir`: of a relative name the current one.
pub(crate) fn parent(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A new folder of a temporary name beside `dir`.
fn create_beside(dir: &Path) -> io::Result<PathBuf> {
    loop {
        let partial = Temporary::of_this_process(What::Partial, number()).beside(dir);
        match fs::create_dir(&partial) {
            // An earlier process of our number was killed.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            created => return created.map(|()| partial),
        }
    }
}

/// Another one at every call, for the threads of a process may write the same folder.
fn number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Exchanges the names of two folders in one step. False where the system or the file system cannot.
#[cfg(target_os = "linux")]
fn exchange_names(one: &Path, other: &Path) -> io::Result<bool> {
    use rustix::fs::{renameat_with, RenameFlags, CWD};
    use rustix::io::Errno;
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        // Sandboxes answer a call they do not know with PERM.
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

/// Makes the names in `dir` as durable as the files' contents.
fn sync_folder(dir: &Path) -> io::Result<()> {
    // Only Unix opens folders.
    if cfg!(unix) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done where names cannot be exchanged in one step.
    #[test]
    fn two_steps_lead_to_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("model");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("old"), "").unwrap();
        let new = NewFolder::create(&dir, true).unwrap();
        new.write_text("new", "").unwrap();
        let old = new.exchange_in_two_steps().unwrap();
        assert!(dir.join("new").exists() && old.join("old").exists());
        fs::remove_dir_all(old).unwrap();
        drop(new);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
