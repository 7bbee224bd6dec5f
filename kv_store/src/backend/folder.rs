//! A store of files in a folder.
//!
//! There is no index: a block is found by its name, so several processes can share a folder, and one that is
//! killed leaves at most a temporary file. A block is written under a temporary name and renamed, so a reader
//! sees all of it or nothing. Nothing is synced: after a power cut a file may be damaged, which its checksum shows.
//!
//! The time of modification of a file is when its block was last used, see [`time_of_use`].

use std::fs::{self, File};
#[cfg(target_os = "linux")]
use std::io::Seek;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::access::{create_root, Access};
use super::evict::{Evicted, Limit};
use super::folder_files::{
    block_path, delete_file, delete_stale_files, found, is_unreadable, open_block, read_file,
    FileError, Opened, Skipped,
};
use super::Stored;
use crate::block::DamagedBlock;
use crate::buffers::ALIGNMENT;
use crate::log_limit::LogLimit;
use crate::use_time::time_of_use;
use crate::BlockKey;

/// A store in a folder.
pub(crate) struct Folder {
    root: PathBuf,
    access: Access,
    limit: Option<Limit>,
    untouched: LogLimit,
}

/// The open file of a block that was read.
pub(crate) struct BlockFile {
    folder: Arc<Folder>,
    file: File,
    key: BlockKey,
}

impl Folder {
    /// Opens the store in `root`, which is created if it is not there. Returns the number of blocks that were
    /// deleted because there were more than `max_bytes`.
    pub(crate) fn open(root: PathBuf, max_bytes: Option<u64>) -> Result<(Self, u64), FileError> {
        create_root(&root).map_err(FileError::new("create", &root))?;
        let access = Access::of(&root).map_err(FileError::new("read", &root))?;
        // Fails now, and not with the first block, if the folder cannot be written.
        let probe = access.temporary_file(&root).and_then(|mut file| file.write_all(b"probe"));
        probe.map_err(FileError::new("write to", &root))?;
        let mut skipped = Skipped::default();
        delete_stale_files(&root, &mut skipped);
        skipped.log(&root);
        let limit = max_bytes.map(Limit::new);
        let evicted = limit.as_ref().map_or_else(Evicted::default, |limit| limit.list(&root));
        Ok((Self { root, access, limit, untouched: LogLimit::default() }, evicted.blocks))
    }

    /// The block under `key`, read up to `longest` bytes and one more.
    pub(crate) fn read(
        self: &Arc<Self>,
        key: BlockKey,
        longest: usize,
    ) -> Result<Stored, FileError> {
        let path = block_path(&self.root, &key);
        let (file, len) = match open_block(&path)? {
            Opened::File(file, len) => (file, len),
            Opened::Unusable(damage) => return Ok(Stored::Unusable(damage)),
            Opened::Nothing => {
                // Without its root, for example because it is not mounted, the store itself is missing.
                fs::metadata(&self.root).map_err(FileError::new("find", &self.root))?;
                return Ok(Stored::Missing);
            }
        };
        match read_file(&file, len, longest) {
            Ok(block) => {
                let file = BlockFile { folder: Arc::clone(self), file, key };
                Ok(Stored::Block(block.into(), Some(file)))
            }
            Err(error) if is_unreadable(&error) => {
                Ok(Stored::Unusable(DamagedBlock::unreadable(&path, &error)))
            }
            Err(error) => Err(FileError::new("read", &path)(error)),
        }
    }

    /// Whether there is a file for the block `key`.
    pub(crate) fn exists(&self, key: BlockKey) -> Result<bool, FileError> {
        let path = block_path(&self.root, &key);
        match found(fs::symlink_metadata(&path)) {
            Ok(Some(metadata)) => Ok(metadata.is_file()),
            Ok(None) => {
                fs::metadata(&self.root).map_err(FileError::new("find", &self.root))?;
                Ok(false)
            }
            Err(error) if is_unreadable(&error) => Ok(false),
            Err(error) => Err(FileError::new("find", &path)(error)),
        }
    }

    /// Writes the block at `index` of a prompt. Returns what was deleted to make room.
    pub(crate) fn write(
        &self,
        key: BlockKey,
        index: usize,
        block: &[u8],
    ) -> Result<Evicted, FileError> {
        self.write_with(key, index, block.len() as u64, &|file| write_file(file, block))
    }

    /// As [`write`](Self::write), with `write` for the bytes.
    fn write_with(
        &self,
        key: BlockKey,
        index: usize,
        len: u64,
        write: &dyn Fn(&mut File) -> io::Result<()>,
    ) -> Result<Evicted, FileError> {
        let path = block_path(&self.root, &key);
        let Some(limit) = &self.limit else {
            self.put(&path, index, write)?;
            return Ok(Evicted::default());
        };
        let times_full = limit.times_full();
        let mut evicted = Evicted::default();
        let replaced = match self.put(&path, index, write) {
            // Others use the disk as well, so it can be full before the store is.
            Err(error) if error.is_full() => {
                evicted = limit.disk_is_full(&self.root, times_full, len);
                self.put(&path, index, write)?
            }
            put => put?,
        };
        evicted.add(limit.written(&self.root, len.saturating_sub(replaced)));
        Ok(evicted)
    }

    /// Puts a file at `path`. Returns the bytes of the file that it replaced.
    fn put(
        &self,
        path: &Path,
        index: usize,
        write: &dyn Fn(&mut File) -> io::Result<()>,
    ) -> Result<u64, FileError> {
        let parent = path.parent().expect("a block is in a folder");
        let create = || self.access.temporary_file(parent);
        let mut file = match found(create()).map_err(FileError::new("create a file in", parent))? {
            Some(file) => file,
            None => {
                self.create_subfolder(parent).map_err(FileError::new("create", parent))?;
                create().map_err(FileError::new("create a file in", parent))?
            }
        };
        // An error drops the file, which deletes it.
        write(file.as_file_mut()).map_err(FileError::new("write", path))?;
        let replaced = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file);
        let file =
            file.persist(path).map_err(|error| FileError::new("write", path)(error.error))?;
        // Set after the rename: other processes delete temporary files whose time is old. If this process dies before,
        // the block counts as used when it was written.
        if let Err(error) = file.set_modified(time_of_use(index)) {
            self.warn_time_not_set(path, &error);
        }
        Ok(replaced.map_or(0, |replaced| replaced.len()))
    }

    /// The time of the file at `path` cannot be set.
    fn warn_time_not_set(&self, path: &Path, error: &io::Error) {
        if let Some(left_out) = self.untouched.permit() {
            tracing::warn!(
                left_out,
                "cannot set the time of {}: {error}. The KV store will delete it too early or too late",
                path.display()
            );
        }
    }

    /// Creates a subfolder, and the root if that is gone as well: someone has emptied the store.
    fn create_subfolder(&self, path: &Path) -> io::Result<()> {
        if found(self.access.create_subfolder(path))?.is_none() {
            create_root(&self.root)?;
            self.access.create_subfolder(path)?;
        }
        Ok(())
    }

    /// Deletes a block, if it is there.
    pub(crate) fn delete(&self, key: BlockKey) -> Result<(), FileError> {
        delete_file(&block_path(&self.root, &key)).map(|_| ())
    }

    /// Larger blocks would be deleted as soon as they are written, and all others before them.
    pub(crate) fn longest_block(&self) -> usize {
        self.limit.as_ref().map_or(usize::MAX, |limit| limit.remaining() as usize)
    }
}

impl BlockFile {
    /// The block is used now, at `index` of a prompt.
    pub(crate) fn used(&self, index: usize) {
        let result = self.file.set_modified(time_of_use(index)).or_else(|error| {
            match error.kind() {
                // The file is another user's. Those who may write it may still set the present time.
                io::ErrorKind::PermissionDenied => used_now(&self.file),
                _ => Err(error),
            }
        });
        if let Err(error) = result {
            self.folder.warn_time_not_set(&block_path(&self.folder.root, &self.key), &error);
        }
    }
}

#[cfg(unix)]
fn used_now(file: &File) -> io::Result<()> {
    use rustix::fs::{futimens, Timespec, Timestamps, UTIME_NOW};
    // Both times: one alone may be set by the owner only.
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Ok(futimens(file, &Timestamps { last_access: now, last_modification: now })?)
}

#[cfg(not(unix))]
fn used_now(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::PermissionDenied.into())
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

#[cfg(test)]
mod tests;
