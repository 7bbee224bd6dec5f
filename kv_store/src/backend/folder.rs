//! A store of files in a folder.
//!
//! There is no index: a block is found by its name, so several processes can share a folder, and one that is
//! killed leaves at most a temporary file. A block is written under a temporary name and renamed, so a reader
//! sees all of it or nothing. Nothing is synced: after a power cut a file may be damaged, which its checksum shows.
//!
//! The time of modification of a file is when its block was last used.

use std::fs::{self, File, Permissions};
#[cfg(target_os = "linux")]
use std::io::Seek;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::folder_files::{
    block_path, delete_file, files, found, len_and_use, read_file, FileError, Found, TEMPORARY,
};
use crate::buffers::ALIGNMENT;
use crate::log_limit::LogLimit;
use crate::BlockKey;

/// A temporary file that is older than this was left behind by a process that died.
const STALE: Duration = Duration::from_secs(3600);

/// A store in a folder.
pub(crate) struct Folder {
    root: PathBuf,
    max_bytes: Option<u64>,
    /// Bytes in the folder: those found when it was opened or last listed, and those written since. Other
    /// processes write as well, so this is only how soon to list again. Its lock makes listings wait for each
    /// other.
    bytes: Mutex<u64>,
    untouched: LogLimit,
}

impl Folder {
    /// Opens the store in `root`, which is created if it is not there. Returns the number of blocks that were
    /// deleted because there were more than `max_bytes`.
    pub(crate) fn open(root: PathBuf, max_bytes: Option<u64>) -> Result<(Self, u64), FileError> {
        create_folder(&root).map_err(FileError::new("create", &root))?;
        // Fails now, and not with the first block, if the folder cannot be written.
        let probe = temporary_file(&root).and_then(|mut file| file.write_all(b"probe"));
        probe.map_err(FileError::new("write to", &root))?;
        let bytes = bytes_at_open(&root, max_bytes.is_some())?;
        let folder =
            Self { root, max_bytes, bytes: Mutex::new(bytes), untouched: LogLimit::default() };
        let evicted = folder.make_room(0)?;
        Ok((folder, evicted.len() as u64))
    }

    /// The block under `key`, read up to `longest` bytes and one more.
    pub(crate) fn read(&self, key: BlockKey, longest: usize) -> Result<Option<Vec<u8>>, FileError> {
        let path = block_path(&self.root, &key);
        let Some((file, block)) = read_file(&path, longest)? else {
            return Ok(None);
        };
        if let Err(error) = file.set_modified(SystemTime::now()) {
            if let Some(left_out) = self.untouched.permit() {
                tracing::warn!(
                    left_out,
                    "cannot set the time of {}: {error}. The KV store will delete it as if it were unused",
                    path.display()
                );
            }
        }
        Ok(Some(block))
    }

    /// Writes a block. Returns the blocks that were deleted to make room.
    pub(crate) fn write(&self, key: BlockKey, block: &[u8]) -> Result<Vec<BlockKey>, FileError> {
        let path = block_path(&self.root, &key);
        let parent = path.parent().expect("a block is in a folder");
        let mut file =
            found(temporary_file(parent)).map_err(FileError::new("create a file in", parent))?;
        if file.is_none() {
            fs::create_dir_all(parent).map_err(FileError::new("create", parent))?;
            file =
                Some(temporary_file(parent).map_err(FileError::new("create a file in", parent))?);
        }
        let mut file = file.expect("created above");
        // An error drops the file, which deletes it.
        write_file(file.as_file_mut(), block).map_err(FileError::new("write", &path))?;
        let replaced = fs::metadata(&path).map_or(0, |replaced| replaced.len());
        file.persist(&path).map_err(|error| FileError::new("write", &path)(error.error))?;
        self.make_room((block.len() as u64).saturating_sub(replaced))
    }

    /// Deletes a block, if it is there.
    pub(crate) fn delete(&self, key: BlockKey) -> Result<(), FileError> {
        delete_file(&block_path(&self.root, &key)).map(|_| ())
    }

    /// Larger blocks would be deleted as soon as they are written, and all others before them.
    pub(crate) fn longest_block(&self) -> usize {
        self.max_bytes.map_or(usize::MAX, |max| remaining(max) as usize)
    }

    /// Adds `written` to the bytes in the folder, and deletes blocks if there are too many.
    fn make_room(&self, written: u64) -> Result<Vec<BlockKey>, FileError> {
        let Some(max) = self.max_bytes else {
            return Ok(Vec::new());
        };
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *bytes += written;
        if *bytes <= max {
            return Ok(Vec::new());
        }
        let evicted = evict(&self.root, max, remaining(max))?;
        *bytes = evicted.bytes_left;
        Ok(evicted.keys)
    }
}

/// What an eviction leaves of `max_bytes`, so that not every write needs one.
fn remaining(max_bytes: u64) -> u64 {
    max_bytes / 10 * 9 + max_bytes % 10 * 9 / 10
}

/// What [`evict`] did.
pub(crate) struct Evicted {
    /// Blocks that were deleted.
    pub keys: Vec<BlockKey>,
    /// Bytes that were deleted.
    pub bytes: u64,
    /// Blocks that are left.
    pub blocks_left: u64,
    /// Bytes that are left.
    pub bytes_left: u64,
}

/// Lists the store in `root`. If it has more than `max_bytes`, deletes the least recently used blocks until
/// at most `target` bytes are left.
pub(crate) fn evict(root: &Path, max_bytes: u64, target: u64) -> Result<Evicted, FileError> {
    let mut blocks = Vec::new();
    for file in files(root) {
        let Found::Block(key, entry) = file? else { continue };
        if let Some((len, used)) = len_and_use(&entry)? {
            blocks.push((used, key, len));
        }
    }
    let bytes_left = blocks.iter().map(|(_, _, len)| len).sum();
    let blocks_left = blocks.len() as u64;
    let mut evicted = Evicted { keys: Vec::new(), bytes: 0, blocks_left, bytes_left };
    if bytes_left <= max_bytes {
        return Ok(evicted);
    }
    blocks.sort_unstable_by_key(|(used, ..)| *used);
    for (_, key, len) in blocks {
        if evicted.bytes_left <= target {
            break;
        }
        // Another process may have deleted it since. It is gone in either case.
        if delete_file(&block_path(root, &key))? {
            evicted.keys.push(key);
            evicted.bytes += len;
        }
        evicted.blocks_left -= 1;
        evicted.bytes_left -= len;
    }
    Ok(evicted)
}

/// Deletes stale temporary files. Returns the bytes of the blocks if they are to be counted, which takes much
/// longer than listing names.
fn bytes_at_open(root: &Path, count: bool) -> Result<u64, FileError> {
    let now = SystemTime::now();
    let mut bytes = 0;
    for file in files(root) {
        let (is_block, entry) = match file? {
            Found::Block(_, entry) => (true, entry),
            Found::Temporary(entry) => (false, entry),
        };
        if is_block && !count {
            continue;
        }
        let Some((len, modified)) = len_and_use(&entry)? else { continue };
        if is_block {
            bytes += len;
        } else if now.duration_since(modified).is_ok_and(|age| age > STALE) {
            delete_file(&entry.path())?;
        }
    }
    Ok(bytes)
}

/// Creates a folder that only its owner can use: blocks contain the tokens of prompts. A folder that exists
/// keeps its mode, so a group of users can share one.
fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Writes `block` past the page cache, if the file system supports it. A block is seldom read soon, and each new page of
/// the cache can cost more than the write: the host of a virtual machine may have to provide the memory first.
fn write_file(file: &mut File, block: &[u8]) -> io::Result<()> {
    let written = write_directly(file, &block[..block.len() / ALIGNMENT * ALIGNMENT])?;
    file.write_all(&block[written..])
}

/// Writes a multiple of [`ALIGNMENT`] bytes past the page cache, from the beginning of `file`, and returns how many were
/// written. An error is not returned: the caller writes the rest through the page cache, and gets it if it persists.
#[cfg(target_os = "linux")]
fn write_directly(file: &mut File, bytes: &[u8]) -> io::Result<usize> {
    use rustix::fs::{fcntl_getfl, fcntl_setfl, OFlags};
    let flags = fcntl_getfl(&*file)?;
    if fcntl_setfl(&*file, flags | OFlags::DIRECT).is_err() {
        return Ok(0);
    }
    let _ = file.write_all(bytes);
    fcntl_setfl(&*file, flags)?;
    Ok(file.stream_position()? as usize)
}

#[cfg(not(target_os = "linux"))]
fn write_directly(_: &mut File, _: &[u8]) -> io::Result<usize> {
    Ok(0)
}

/// A new file in `folder`, deleted when it is dropped.
fn temporary_file(folder: &Path) -> io::Result<tempfile::NamedTempFile<File>> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY.0).suffix(TEMPORARY.1);
    // As usual for files: the umask says who may read them. The folder keeps others out.
    #[cfg(unix)]
    builder.permissions(<Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666));
    builder.tempfile_in(folder)
}
