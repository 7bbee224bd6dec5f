//! Keeps a folder within its size.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::folder_files::{block_path, delete_file, files, len_and_use, Found, Skipped};
use crate::BlockKey;

/// What [`evict`] did.
#[derive(Default)]
pub(crate) struct Evicted {
    /// Blocks that are no longer where reads look for them.
    pub keys: Vec<BlockKey>,
    /// Files that were deleted.
    pub blocks: u64,
    /// Bytes that were deleted.
    pub bytes: u64,
    /// Blocks that are left.
    pub blocks_left: u64,
    /// Bytes that are left.
    pub bytes_left: u64,
    /// Files and folders that could not be read, listed or deleted.
    pub skipped: u64,
}

/// A block that [`evict`] has found.
struct Listed {
    used: SystemTime,
    len: u64,
    file: BlockFile,
}

/// Where the file of a block is.
enum BlockFile {
    /// At the path of this key.
    Of(BlockKey),
    /// In the subfolder of another key.
    Misplaced(PathBuf),
}

/// Lists the store in `root`, and deletes the least recently used blocks until the number of bytes left is at most
/// `target` of the number found. What cannot be read or deleted is logged and left.
pub(crate) fn evict(root: &Path, target: impl FnOnce(u64) -> u64) -> Evicted {
    let mut skipped = Skipped::default();
    let mut blocks = Vec::new();
    for file in files(root) {
        let Some(Found::Block { key, entry, misplaced }) = skipped.value(file) else { continue };
        let Some(Some((len, used))) = skipped.value(len_and_use(&entry)) else { continue };
        // Not the entry itself, which keeps its folder open.
        blocks.push(if misplaced {
            // No read finds it, so it goes first.
            Listed { used: SystemTime::UNIX_EPOCH, len, file: BlockFile::Misplaced(entry.path()) }
        } else {
            Listed { used, len, file: BlockFile::Of(key) }
        });
    }
    let mut evicted = Evicted {
        blocks_left: blocks.len() as u64,
        bytes_left: blocks.iter().map(|block| block.len).sum(),
        ..Evicted::default()
    };
    let target = target(evicted.bytes_left);
    if evicted.bytes_left > target {
        blocks.sort_unstable_by_key(|block| block.used);
        for Listed { len, file, .. } in blocks {
            if evicted.bytes_left <= target {
                break;
            }
            let (path, key) = match file {
                BlockFile::Of(key) => (block_path(root, &key), Some(key)),
                BlockFile::Misplaced(path) => (path, None),
            };
            let Some(deleted) = skipped.value(delete_file(&path)) else { continue };
            // Otherwise another process has deleted it since. It is gone in either case.
            if deleted {
                evicted.keys.extend(key);
                evicted.blocks += 1;
                evicted.bytes += len;
            }
            evicted.blocks_left -= 1;
            evicted.bytes_left -= len;
        }
    }
    skipped.log(root);
    evicted.skipped = skipped.entries;
    evicted
}

/// The limit of a folder, and what is known of the bytes in it.
pub(super) struct Limit {
    max_bytes: u64,
    count: Mutex<Count>,
    /// Held while blocks are deleted because the disk is full.
    disk_full: Mutex<()>,
    /// How often that was done.
    times_full: AtomicU64,
}

#[derive(Default)]
struct Count {
    /// Bytes in the folder: those found when it was last listed, and those written since by this process.
    bytes: u64,
    /// Those written since.
    since: u64,
    /// Someone lists the folder.
    listing: bool,
    /// More than the limit was left the last time. Listing again at once would not help.
    stuck: bool,
}

impl Evicted {
    /// Adds what was deleted later.
    pub(super) fn add(&mut self, later: Self) {
        self.keys.extend(later.keys);
        self.blocks += later.blocks;
        self.bytes += later.bytes;
        self.blocks_left = later.blocks_left;
        self.bytes_left = later.bytes_left;
        self.skipped = self.skipped.max(later.skipped);
    }
}

/// How often a folder is listed at most before a write continues. It is listed again if other processes have filled it in
/// the meantime, which happens again and again only in a tiny store.
const LISTINGS_AT_ONCE: u32 = 50;

/// The least number of blocks between two listings, however small the limit is.
const BLOCKS_BETWEEN: u64 = 4;

impl Limit {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            count: Mutex::default(),
            disk_full: Mutex::default(),
            times_full: AtomicU64::new(0),
        }
    }

    /// What an eviction leaves of the limit, so that not every write needs one.
    pub(super) fn remaining(&self) -> u64 {
        self.max_bytes / 10 * 9 + self.max_bytes % 10 * 9 / 10
    }

    /// Lists the folder whether it is due or not, as when it is opened.
    pub(super) fn list(&self, root: &Path) -> Evicted {
        self.lock().listing = true;
        self.list_now(|target| evict(root, target))
    }

    /// Counts `written` more bytes, of one block, and lists the folder if that is due.
    ///
    /// Other processes write as well, and each knows only of its own blocks. So it lists again after a twentieth of
    /// the limit, whatever its count is, and N processes exceed the limit by N twentieths at most.
    pub(super) fn written(&self, root: &Path, written: u64) -> Evicted {
        self.written_with(written, |target| evict(root, target))
    }

    /// `evict` is called without a lock: the others write on meanwhile.
    fn written_with(
        &self,
        written: u64,
        evict: impl FnMut(&dyn Fn(u64) -> u64) -> Evicted,
    ) -> Evicted {
        let mut count = self.lock();
        count.bytes += written;
        count.since += written;
        let full = count.bytes > self.max_bytes && !count.stuck;
        let pause = (self.max_bytes / 20).max(BLOCKS_BETWEEN * written);
        if count.listing || !full && count.since < pause {
            return Evicted::default();
        }
        count.listing = true;
        drop(count);
        self.list_now(evict)
    }

    fn list_now(&self, mut evict: impl FnMut(&dyn Fn(u64) -> u64) -> Evicted) -> Evicted {
        let (max, remaining) = (self.max_bytes, self.remaining());
        let mut evicted = Evicted::default();
        for again in (0..LISTINGS_AT_ONCE).rev() {
            self.lock().since = 0;
            evicted.add(evict(&|total| if total > max { remaining } else { total }));
            let mut count = self.lock();
            // What was written meanwhile may have been listed or not.
            count.bytes = evicted.bytes_left + count.since;
            count.stuck = evicted.bytes_left > max;
            // Those who wrote meanwhile did not list.
            if count.stuck || count.bytes <= max || again == 0 {
                count.listing = false;
                break;
            }
        }
        evicted
    }

    /// To be asked before a write that may find the disk full.
    pub(super) fn times_full(&self) -> u64 {
        self.times_full.load(Ordering::SeqCst)
    }

    /// Deletes a tenth of the folder, and at least `needed` bytes, after a write has found the disk full. If another
    /// write has done so since `times_full` was asked for, it deletes nothing.
    pub(super) fn disk_is_full(&self, root: &Path, times_full: u64, needed: u64) -> Evicted {
        let _guard = self.disk_full.lock().unwrap_or_else(PoisonError::into_inner);
        if self.times_full() != times_full {
            return Evicted::default();
        }
        let evicted = evict(root, |total| total.saturating_sub(needed.max(total.div_ceil(10))));
        self.times_full.fetch_add(1, Ordering::SeqCst);
        self.lock().bytes = evicted.bytes_left;
        evicted
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A limit of 64 open files is enough for a server.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_listing_keeps_no_files_open() {
        use std::fs;
        let root = tempfile::tempdir().unwrap();
        for first_byte in 0..=255 {
            let key = BlockKey([first_byte; 32]);
            let path = block_path(root.path(), &key);
            fs::create_dir(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let open_files = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open_files();
        let evicted = evict(root.path(), |bytes| {
            // Other tests open files too.
            assert!(open_files() < before + 100);
            bytes - 56
        });
        assert_eq!((evicted.blocks, evicted.blocks_left, evicted.keys.len()), (56, 200, 56));
    }

    fn left(bytes_left: u64) -> Evicted {
        Evicted { bytes_left, ..Evicted::default() }
    }

    #[test]
    fn a_listing_is_due_after_a_twentieth_and_when_the_limit_is_reached() {
        let limit = Limit::new(1000);
        let lists = |written, bytes_left| {
            let mut listed = false;
            limit.written_with(written, |_| {
                listed = true;
                left(bytes_left)
            });
            listed
        };
        assert!(!lists(10, 0));
        assert!(!(0..3).any(|_| lists(10, 0)));
        assert!(lists(10, 990), "a twentieth");
        assert!(!lists(10, 0));
        assert!(lists(10, 900), "more than the limit");
        assert!(!lists(10, 0));
        assert!((0..4).any(|_| lists(10, 2000)));
        // Nothing could be deleted, so that not every write lists the folder.
        assert!(!(0..4).any(|_| lists(10, 2000)));
        assert!(lists(10, 2000));
    }

    #[test]
    fn others_write_while_one_lists() {
        let limit = Limit::new(100);
        let mut listings = 0;
        limit.written_with(101, |target| {
            listings += 1;
            if listings == 2 {
                return left(99);
            }
            assert_eq!([target(100), target(101)], [100, 90]);
            std::thread::scope(|scope| {
                let (done, others) = std::sync::mpsc::channel();
                let limit = &limit;
                scope.spawn(move || {
                    limit.written_with(50, |_| unreachable!("one lists already"));
                    done.send(()).unwrap();
                });
                others.recv_timeout(std::time::Duration::from_secs(10)).expect("it waits");
            });
            left(90)
        });
        assert_eq!(listings, 2, "what was written meanwhile is too much");
        let count = limit.lock();
        assert_eq!((count.bytes, count.listing), (99, false));
    }
}
