//! The files of a file store: `<two hex digits>/<hex key>.kv`, and temporary files beside them.

use std::fs::{self, DirEntry, File, ReadDir};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::BlockKey;

/// How the names of temporary files begin and end.
pub(super) const TEMPORARY: (&str, &str) = (".", ".tmp");

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried, such as `read`.
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`.
    pub(super) fn new<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |source| Self { action, path: path.into(), source }
    }
}

/// The file of the block `key`.
pub(crate) fn block_path(root: &Path, key: &BlockKey) -> PathBuf {
    let name = key.to_string();
    root.join(&name[..2]).join(name + ".kv")
}

/// The bytes of the file at `path`, but not many more than `longest`. `None` if there is no file.
pub(crate) fn read_file(path: &Path, longest: usize) -> Result<Option<(File, Vec<u8>)>, FileError> {
    let Some(file) = found(File::open(path)).map_err(FileError::new("open", path))? else {
        return Ok(None);
    };
    let len = file.metadata().map_err(FileError::new("read", path))?.len();
    let mut bytes = Vec::with_capacity(longest.min(len as usize) + 1);
    // One byte more shows that the file is too long, without reading all of it.
    let mut limited = (&file).take(longest as u64 + 1);
    limited.read_to_end(&mut bytes).map_err(FileError::new("read", path))?;
    Ok(Some((file, bytes)))
}

/// Deletes the file at `path`. False if there was none.
pub(crate) fn delete_file(path: &Path) -> Result<bool, FileError> {
    let deleted = found(fs::remove_file(path)).map_err(FileError::new("delete", path))?;
    Ok(deleted.is_some())
}

/// The length of a file, and when its block was last used. `None` if it is gone.
pub(crate) fn len_and_use(entry: &DirEntry) -> Result<Option<(u64, SystemTime)>, FileError> {
    let path = entry.path();
    let Some(metadata) = found(entry.metadata()).map_err(FileError::new("read", &path))? else {
        return Ok(None);
    };
    let used = metadata.modified().map_err(FileError::new("read", &path))?;
    Ok(Some((metadata.len(), used)))
}

/// Other processes may delete any file at any time.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file in the folder of a store. Files with other names are not the store's, and are left alone.
pub(crate) enum Found {
    Block(BlockKey, DirEntry),
    Temporary(DirEntry),
}

/// All files of the store in `root`, in no order.
pub(crate) fn files(root: &Path) -> impl Iterator<Item = Result<Found, FileError>> + '_ {
    let prefixes = (0..=255).map(|byte| root.join(format!("{byte:02x}")));
    prefixes.flat_map(|folder| {
        let entries = found(fs::read_dir(&folder)).map_err(FileError::new("list", &folder));
        let (entries, error) = match entries {
            Ok(entries) => (entries, None),
            Err(error) => (None, Some(Err(error))),
        };
        error
            .into_iter()
            .chain(entries.into_iter().flat_map(move |entries| in_folder(entries, folder.clone())))
    })
}

fn in_folder(entries: ReadDir, folder: PathBuf) -> impl Iterator<Item = Result<Found, FileError>> {
    entries.filter_map(move |entry| match entry {
        Ok(entry) => Found::of(entry).map(Ok),
        Err(error) => Some(Err(FileError::new("list", &folder)(error))),
    })
}

impl Found {
    fn of(entry: DirEntry) -> Option<Self> {
        let name = entry.file_name().into_string().ok()?;
        if let Some(key) = name.strip_suffix(".kv").and_then(BlockKey::from_hex) {
            return Some(Self::Block(key, entry));
        }
        let temporary = name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1);
        temporary.then_some(Self::Temporary(entry))
    }
}
