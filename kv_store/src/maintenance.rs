//! What `colm kv-store stat`, `check` and `prune` do with a store that may be in use.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures::{stream, StreamExt};

use crate::backend::{
    blocking, delete_file, delete_stale_files, evict, files, len_and_use, open_block, FileError,
    Found, Opened, Patience, Remote, RemoteError, Skipped,
};
use crate::block::{self, DamagedBlock};
use crate::store_url::Location;
use crate::{BlockKey, StoreUrl};

/// The number of blocks that are checked at the same time.
const CHECKS: usize = 4;

/// How long a Redis may take to connect, and to answer a command.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Blocks.
    pub blocks: u64,
    /// Bytes of the blocks.
    pub bytes: u64,
    /// When the block that was not used for longest was last used. Only file stores know.
    pub least_recently_used: Option<SystemTime>,
    /// When a block was last used. Only file stores know.
    pub most_recently_used: Option<SystemTime>,
    /// Temporary files of a file store: writes under way, or what a killed process left.
    pub temporary_files: u64,
    /// Files and subfolders of a file store that could not be read or listed. They are logged.
    pub unreadable: u64,
}

/// What [`check`] has found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Blocks in the store when the check began.
    pub blocks: u64,
    /// Blocks that were checked, or were deleted by others meanwhile.
    pub checked: u64,
    /// Bytes of the blocks that were checked.
    pub bytes: u64,
    /// Blocks of other versions of colm. They are not damaged, and are not deleted.
    pub other_versions: u64,
    /// Subfolders of a file store that could not be listed. They are logged.
    pub unreadable: u64,
    /// Blocks that do not verify or cannot be read, and why.
    pub damaged: Vec<(BlockKey, DamagedBlock)>,
    /// Damaged blocks that were deleted.
    pub deleted: u64,
}

/// What [`prune`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Blocks that were deleted.
    pub deleted_blocks: u64,
    /// Bytes that were deleted.
    pub deleted_bytes: u64,
    /// Blocks that are left.
    pub blocks_left: u64,
    /// Bytes that are left.
    pub bytes_left: u64,
    /// Files and subfolders that could not be read, listed or deleted. They are logged.
    pub skipped: u64,
}

/// A store that cannot be looked through.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// There is no such folder.
    #[error("the KV store {url}: there is no such folder")]
    NoFolder {
        /// The store.
        url: StoreUrl,
    },
    /// A file operation failed.
    #[error("the KV store {url}: {source}")]
    File {
        /// The store.
        url: StoreUrl,
        /// What failed.
        source: FileError,
    },
    /// The remote store failed.
    #[error("the KV store {url}: {source}")]
    Remote {
        /// The store.
        url: StoreUrl,
        /// What failed.
        source: RemoteError,
    },
    /// The store cannot do this.
    #[error("the KV store {url}: {problem}")]
    Unsupported {
        /// The store.
        url: StoreUrl,
        /// Why not, and what to do.
        problem: &'static str,
    },
    /// A thread ended.
    #[error("the thread of a file operation ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// Counts the blocks of a store. Runs in a tokio runtime.
///
/// # Errors
/// If the store cannot be listed.
pub async fn stat(url: &StoreUrl) -> Result<Statistics, MaintenanceError> {
    match place(url)? {
        Place::Folder(root) => Ok(blocking(move || stat_folder(&root)).await?),
        Place::Remote(store) => {
            let blocks = list(&store, url).await?;
            let bytes = blocks.iter().map(|(_, len)| len).sum();
            Ok(Statistics { blocks: blocks.len() as u64, bytes, ..Statistics::default() })
        }
    }
}

/// Verifies every block of a store, and deletes those that are damaged if `delete` says so. `progress` gets the
/// report after each block. Runs in a tokio runtime.
///
/// # Errors
/// If the store cannot be listed, or if a remote store fails.
pub async fn check(
    url: &StoreUrl,
    delete: bool,
    mut progress: impl FnMut(&CheckReport),
) -> Result<CheckReport, MaintenanceError> {
    let place = place(url)?;
    let (blocks, unreadable) = place.blocks(url).await?;
    let mut report =
        CheckReport { blocks: blocks.len() as u64, unreadable, ..CheckReport::default() };
    let checks = blocks.into_iter().map(|block| {
        let (place, url) = (place.clone(), url.clone());
        async move {
            let checked = place.check(&url, &block).await;
            (block, checked)
        }
    });
    let mut checks = stream::iter(checks).buffer_unordered(CHECKS);
    while let Some((block, checked)) = checks.next().await {
        let checked = checked?;
        report.checked += 1;
        report.bytes += checked.len;
        match checked.result {
            Ok(()) => {}
            Err(DamagedBlock::Version { .. }) => report.other_versions += 1,
            Err(damage) => {
                if delete && place.delete(url, &block).await? {
                    report.deleted += 1;
                }
                report.damaged.push((block.key, damage));
            }
        }
        progress(&report);
    }
    Ok(report)
}

/// Deletes the least recently used blocks of a file store until at most `max_bytes` are left, and what processes that
/// died left half written. Runs in a tokio runtime.
///
/// # Errors
/// If it is not a file store, or if its folder cannot be listed.
pub async fn prune(url: &StoreUrl, max_bytes: u64) -> Result<PruneReport, MaintenanceError> {
    let Place::Folder(root) = place(url)? else {
        let problem = "only file stores can be pruned. Limit Redis with its options maxmemory and \
                       maxmemory-policy allkeys-lru, and S3 with a lifecycle rule";
        return Err(MaintenanceError::Unsupported { url: url.clone(), problem });
    };
    let pruned = blocking(move || {
        let mut skipped = Skipped::default();
        delete_stale_files(&root, &mut skipped);
        skipped.log(&root);
        (evict(&root, |_| max_bytes), skipped.entries)
    });
    let (evicted, skipped) = pruned.await?;
    Ok(PruneReport {
        deleted_blocks: evicted.blocks,
        deleted_bytes: evicted.bytes,
        blocks_left: evicted.blocks_left,
        bytes_left: evicted.bytes_left,
        // What cannot be listed was skipped both times.
        skipped: evicted.skipped.max(skipped),
    })
}

/// A store that is looked through.
#[derive(Clone)]
enum Place {
    Folder(PathBuf),
    Remote(Remote),
}

/// A block to be checked.
struct Listed {
    key: BlockKey,
    /// Its file, in a file store.
    path: Option<PathBuf>,
    misplaced: bool,
}

/// A block that was checked.
struct Checked {
    len: u64,
    result: Result<(), DamagedBlock>,
}

fn place(url: &StoreUrl) -> Result<Place, MaintenanceError> {
    let store = match &url.0 {
        Location::Folder(root) if root.is_dir() => {
            let listed = fs::read_dir(root).map_err(FileError::new("list", root));
            listed.map_err(|source| MaintenanceError::File { url: url.clone(), source })?;
            return Ok(Place::Folder(root.clone()));
        }
        Location::Folder(_) => return Err(MaintenanceError::NoFolder { url: url.clone() }),
        Location::Memory(name) if name.is_empty() => {
            let problem =
                "it belongs to the handle that opened it. Name it, as in memory:name, to share it";
            return Err(MaintenanceError::Unsupported { url: url.clone(), problem });
        }
        Location::Memory(name) => Remote::memory(name),
        Location::Redis(address) => {
            let patience = Patience { connect: PATIENCE, answer: Some(PATIENCE) };
            Remote::redis(address, patience, CHECKS)
        }
        #[cfg(feature = "s3")]
        Location::S3 { bucket, prefix } => Remote::s3(bucket, prefix),
    };
    Ok(Place::Remote(store.map_err(|source| remote(url, source))?))
}

impl Place {
    /// All blocks, and how many subfolders cannot be listed.
    async fn blocks(&self, url: &StoreUrl) -> Result<(Vec<Listed>, u64), MaintenanceError> {
        match self {
            Self::Folder(root) => {
                let root = root.clone();
                Ok(blocking(move || list_folder(&root)).await?)
            }
            Self::Remote(store) => {
                let blocks = list(store, url).await?.into_iter();
                let listed = |(key, _)| Listed { key, path: None, misplaced: false };
                Ok((blocks.map(listed).collect(), 0))
            }
        }
    }

    /// Verifies a block. One that has been deleted since it was listed is not damaged.
    async fn check(&self, url: &StoreUrl, block: &Listed) -> Result<Checked, MaintenanceError> {
        let Listed { key, path, misplaced } = block;
        let (key, misplaced) = (*key, *misplaced);
        let Self::Remote(store) = self else {
            let path = path.clone().expect("the block of a file store has a path");
            return Ok(blocking(move || check_file(&path, key, misplaced)).await?);
        };
        let block = store.read(key, block::LONGEST).await.map_err(|source| remote(url, source))?;
        let Some(block) = block else { return Ok(GONE) };
        let verify =
            move || Checked { len: block.len() as u64, result: block::verify(&block, key) };
        Ok(blocking(verify).await?)
    }

    /// Deletes a block. False if it stays.
    async fn delete(&self, url: &StoreUrl, block: &Listed) -> Result<bool, MaintenanceError> {
        let Self::Remote(store) = self else {
            let path = block.path.clone().expect("the block of a file store has a path");
            let deleted = blocking(move || delete_file(&path)).await?;
            if let Err(error) = &deleted {
                tracing::warn!("KV store {url}: a damaged block stays: {error}");
            }
            return Ok(deleted.is_ok());
        };
        store.delete(block.key).await.map_err(|source| remote(url, source))?;
        Ok(true)
    }
}

/// A block that was deleted meanwhile.
const GONE: Checked = Checked { len: 0, result: Ok(()) };

fn list_folder(root: &Path) -> (Vec<Listed>, u64) {
    let mut skipped = Skipped::default();
    let mut blocks = Vec::new();
    for file in files(root) {
        if let Some(Found::Block { key, entry, misplaced }) = skipped.value(file) {
            blocks.push(Listed { key, path: Some(entry.path()), misplaced });
        }
    }
    skipped.log(root);
    (blocks, skipped.entries)
}

fn check_file(path: &Path, key: BlockKey, misplaced: bool) -> Checked {
    match open_block(path) {
        Ok(Opened::Nothing) => GONE,
        Ok(Opened::File(_, len)) if misplaced => {
            Checked { len, result: Err(DamagedBlock::Misplaced { path: path.into() }) }
        }
        Ok(Opened::File(file, len)) => {
            Checked { len, result: block::verify_file(file, len, path, key) }
        }
        Ok(Opened::Unusable(damage)) => Checked { len: 0, result: Err(damage) },
        Err(error) => {
            Checked { len: 0, result: Err(DamagedBlock::unreadable(path, &error.source)) }
        }
    }
}

fn stat_folder(root: &Path) -> Statistics {
    let mut statistics = Statistics::default();
    let mut skipped = Skipped::default();
    for file in files(root) {
        let entry = match skipped.value(file) {
            Some(Found::Block { entry, .. }) => entry,
            Some(Found::Temporary(_)) => {
                statistics.temporary_files += 1;
                continue;
            }
            None => continue,
        };
        let Some(Some((len, used))) = skipped.value(len_and_use(&entry)) else { continue };
        statistics.blocks += 1;
        statistics.bytes += len;
        let used = Some(used);
        if statistics.least_recently_used.is_none() || used < statistics.least_recently_used {
            statistics.least_recently_used = used;
        }
        statistics.most_recently_used = statistics.most_recently_used.max(used);
    }
    skipped.log(root);
    statistics.unreadable = skipped.entries;
    statistics
}

async fn list(store: &Remote, url: &StoreUrl) -> Result<Vec<(BlockKey, u64)>, MaintenanceError> {
    store.list().await.map_err(|source| remote(url, source))
}

fn remote(url: &StoreUrl, source: RemoteError) -> MaintenanceError {
    MaintenanceError::Remote { url: url.clone(), source }
}
