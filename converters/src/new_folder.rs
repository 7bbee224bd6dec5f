//! A checkpoint folder that appears when it is complete, or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::error::CheckpointError;

/// A folder under a temporary name beside its final one, removed unless finished. A process that
/// is killed leaves it behind; nothing stands at the final name then.
pub(crate) struct NewFolder {
    partial: PathBuf,
    dir: PathBuf,
    replace: bool,
}

impl NewFolder {
    /// Prepares to write `dir`; one that exists is refused, or with `replace` stays until the new
    /// one is complete.
    pub fn create(dir: &Path, replace: bool) -> Result<Self, CheckpointError> {
        let named = dir.file_name().is_some() && (!dir.is_symlink() || dir.exists());
        if !named || (dir.exists() && !(replace && dir.is_dir())) {
            return Err(CheckpointError::Exists { path: dir.into() });
        }
        let partial = beside(dir, PARTIAL);
        fs::create_dir_all(parent(dir))
            .and_then(|()| fs::create_dir(&partial))
            .map_err(|source| CheckpointError::Write { path: partial.clone(), source })?;
        Ok(Self { partial, dir: dir.into(), replace })
    }

    /// Where to write file `name` until [`Self::finish`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.partial.join(name)
    }

    /// Writes a text file, with a newline at its end.
    pub fn write_text(&self, name: &str, text: &str) -> Result<(), CheckpointError> {
        self.write_file(name, |path| fs::write(path, format!("{text}\n")))
    }

    /// Copies `from` to file `name`.
    pub fn copy(&self, from: &Path, name: &str) -> Result<(), CheckpointError> {
        self.write_file(name, |path| fs::copy(from, path).map(drop))
    }

    fn write_file(
        &self,
        name: &str,
        write: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<(), CheckpointError> {
        let path = self.path(name);
        write(&path)
            .and_then(|()| File::open(&path)?.sync_all())
            .map_err(|source| CheckpointError::Write { path, source })
    }

    /// Gives the folder its name. Whoever is killed in between leaves the old folder under one of
    /// the names of [`leftovers`], beside the complete new one.
    pub fn finish(self) -> Result<(), CheckpointError> {
        let rename = || {
            sync_folder(&self.partial)?;
            match self.replace && self.dir.exists() {
                false => fs::rename(&self.partial, &self.dir)?,
                true => self.exchange()?,
            }
            sync_folder(parent(&self.dir))
        };
        rename().map_err(|source| CheckpointError::Write { path: self.dir.clone(), source })
    }

    fn exchange(&self) -> std::io::Result<()> {
        let old = beside(&self.dir, REPLACED);
        fs::rename(&self.dir, &old)?;
        if let Err(error) = fs::rename(&self.partial, &self.dir) {
            fs::rename(&old, &self.dir)?;
            return Err(error);
        }
        fs::remove_dir_all(&old)
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        // Gone already when finished; when not, the failure that ended the writing matters more
        // than one in cleaning up.
        let _ = fs::remove_dir_all(&self.partial);
    }
}

const PARTIAL: &str = ".partial-";
const REPLACED: &str = ".replaced-";

/// A name of this process beside `dir`.
fn beside(dir: &Path, what: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!("{what}{}", std::process::id()));
    dir.with_file_name(name)
}

/// What runs that were killed, or still write, have beside `dir`: an incomplete folder
/// `DIR.partial-*`, or one that `--force` was about to replace, `DIR.replaced-*`.
pub fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let name = dir.file_name().unwrap_or_default();
    let prefixes = [PARTIAL, REPLACED].map(|what| {
        let mut prefix = OsString::from(name);
        prefix.push(what);
        prefix
    });
    let entries = fs::read_dir(parent(dir)).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let starts =
                |prefix: &OsString| name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes());
            prefixes.iter().any(starts)
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// The folder that holds `dir`: of a relative name the current one.
pub(crate) fn parent(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes the names in `dir` as durable as the files' contents.
fn sync_folder(dir: &Path) -> std::io::Result<()> {
    // Only Unix opens folders.
    if cfg!(unix) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}
