//! The files of a file store: `<two hex digits>/<hex key>.kv`, and temporary files beside them.

use std::fs::{self, DirEntry, File, ReadDir};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::block::DamagedBlock;
use crate::BlockKey;

/// How the names of temporary files begin and end.
pub(super) const TEMPORARY: (&str, &str) = (".", ".tmp");

/// A temporary file that is older than this was left behind by a process that died.
const STALE: Duration = Duration::from_secs(600);

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
    pub(crate) fn new<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |source| Self { action, path: path.into(), source }
    }

    /// Whether something is in the way of one file alone, which does not keep others from being written.
    pub(crate) fn concerns_one_entry(&self) -> bool {
        concerns_one_entry(&self.source)
    }

    /// Whether there is no room for a file.
    #[cfg(unix)]
    pub(super) fn is_full(&self) -> bool {
        use rustix::io::Errno;
        matches!(Errno::from_io_error(&self.source), Some(Errno::NOSPC | Errno::DQUOT))
    }

    /// Whether there is no room for a file.
    #[cfg(not(unix))]
    pub(super) fn is_full(&self) -> bool {
        matches!(self.source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    }
}

/// Whether something is in the way of one file or subfolder.
#[cfg(unix)]
fn concerns_one_entry(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::ACCESS
                | Errno::PERM
                | Errno::ISDIR
                | Errno::NOTDIR
                | Errno::NOTEMPTY
                | Errno::EXIST
                | Errno::LOOP
                | Errno::NXIO
        )
    )
}

/// Whether it makes a block unreadable, and need not keep others from being read.
#[cfg(unix)]
pub(super) fn is_unreadable(error: &io::Error) -> bool {
    use rustix::io::Errno;
    // A bad sector, and a file that another machine has deleted. When writing they mean more.
    let damaged = matches!(Errno::from_io_error(error), Some(Errno::IO | Errno::STALE));
    damaged || concerns_one_entry(error)
}

#[cfg(not(unix))]
pub(super) fn is_unreadable(error: &io::Error) -> bool {
    concerns_one_entry(error)
}

#[cfg(not(unix))]
fn concerns_one_entry(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::IsADirectory | ErrorKind::NotADirectory
    )
}

/// The file of the block `key`.
pub(crate) fn block_path(root: &Path, key: &BlockKey) -> PathBuf {
    let name = key.to_string();
    root.join(&name[..2]).join(name + ".kv")
}

/// What is at the path of a block.
pub(crate) enum Opened {
    Nothing,
    /// A file and its length.
    File(File, u64),
    /// Something that cannot be read.
    Unusable(DamagedBlock),
}

/// Opens the file at `path`. Never waits for whoever opens the other end of a pipe, and follows no link.
pub(crate) fn open_block(path: &Path) -> Result<Opened, FileError> {
    let opened = open_to_read(path).and_then(|file| {
        let metadata = file.metadata()?;
        Ok((file, metadata))
    });
    match opened {
        Ok((file, metadata)) if metadata.is_file() => Ok(Opened::File(file, metadata.len())),
        Ok(_) => Ok(Opened::Unusable(DamagedBlock::NotAFile { path: path.into() })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Opened::Nothing),
        Err(error) if is_unreadable(&error) => {
            Ok(Opened::Unusable(DamagedBlock::unreadable(path, &error)))
        }
        Err(error) => Err(FileError::new("open", path)(error)),
    }
}

#[cfg(unix)]
fn open_to_read(path: &Path) -> io::Result<File> {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    File::options().read(true).custom_flags(flags.bits() as i32).open(path)
}

#[cfg(not(unix))]
fn open_to_read(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// The bytes of `file`, which has `len`, but not many more than `longest`.
pub(super) fn read_file(file: &File, len: u64, longest: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(longest.min(len as usize) + 1);
    // One byte more shows that the file is too long, without reading all of it.
    file.take(longest as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Deletes the file at `path`. False if there was none.
pub(crate) fn delete_file(path: &Path) -> Result<bool, FileError> {
    let deleted = found(fs::remove_file(path)).map_err(FileError::new("delete", path))?;
    Ok(deleted.is_some())
}

/// The length of a file, and when its block was last used. `None` if it is gone, or not a file.
pub(crate) fn len_and_use(entry: &DirEntry) -> Result<Option<(u64, SystemTime)>, FileError> {
    let path = entry.path();
    let metadata = found(entry.metadata()).map_err(FileError::new("read", &path))?;
    let Some(metadata) = metadata.filter(|metadata| metadata.is_file()) else {
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
    Block {
        key: BlockKey,
        entry: DirEntry,
        /// It is in the subfolder of another key, where no read finds it.
        misplaced: bool,
    },
    Temporary(DirEntry),
}

/// All files of the store in `root`, in no order.
pub(crate) fn files(root: &Path) -> impl Iterator<Item = Result<Found, FileError>> + '_ {
    (0..=255).flat_map(|first_byte: u8| {
        let folder = root.join(format!("{first_byte:02x}"));
        let entries = found(fs::read_dir(&folder)).map_err(FileError::new("list", &folder));
        let (entries, error) = match entries {
            Ok(entries) => (entries, None),
            Err(error) => (None, Some(Err(error))),
        };
        let found = entries.into_iter().flat_map(move |entries| {
            in_folder(entries, folder.clone()).filter_map(move |entry| match entry {
                Ok(entry) => Found::of(entry, first_byte).map(Ok),
                Err(error) => Some(Err(error)),
            })
        });
        error.into_iter().chain(found)
    })
}

fn in_folder(
    entries: ReadDir,
    folder: PathBuf,
) -> impl Iterator<Item = Result<DirEntry, FileError>> {
    entries.map(move |entry| entry.map_err(FileError::new("list", &folder)))
}

impl Found {
    /// What an entry of the subfolder of keys with `first_byte` is.
    fn of(entry: DirEntry, first_byte: u8) -> Option<Self> {
        let name = entry.file_name().into_string().ok()?;
        if let Some(key) = name.strip_suffix(".kv").and_then(BlockKey::from_hex) {
            return Some(Self::Block { key, entry, misplaced: key.0[0] != first_byte });
        }
        let temporary = name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1);
        temporary.then_some(Self::Temporary(entry))
    }
}

/// What was skipped because it could not be read, listed or deleted.
#[derive(Default)]
pub(crate) struct Skipped {
    pub entries: u64,
    first: Option<FileError>,
}

impl Skipped {
    /// The value of `result`. An error is counted.
    pub(crate) fn value<T>(&mut self, result: Result<T, FileError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.entries += 1;
                self.first.get_or_insert(error);
                None
            }
        }
    }

    /// Logs them, if there are any, as one warning.
    pub(crate) fn log(&self, root: &Path) {
        if let Some(error) = &self.first {
            let (root, skipped) = (root.display(), self.entries);
            tracing::warn!("KV store file://{root}: {skipped} entries were skipped: {error}");
        }
    }
}

/// Deletes what processes that died left in `root`.
pub(crate) fn delete_stale_files(root: &Path, skipped: &mut Skipped) {
    let now = SystemTime::now();
    for file in files(root) {
        let Some(Found::Temporary(entry)) = skipped.value(file) else { continue };
        let Some(Some((_, modified))) = skipped.value(len_and_use(&entry)) else { continue };
        if now.duration_since(modified).is_ok_and(|age| age > STALE) {
            skipped.value(delete_file(&entry.path()));
        }
    }
}
