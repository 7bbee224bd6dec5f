//! What `colm kv-store stat`, `check` and `prune` do with a store that may be in use.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use futures::{stream, StreamExt};

use crate::backend::{
    block_path, blocking, delete_file, evict, files, len_and_use, read_file, FileError, Found,
    Remote, RemoteError,
};
use crate::block::{self, DamagedBlock};
use crate::store_url::Location;
use crate::{BlockKey, StoreUrl};

/// So many blocks are checked at once.
const CHECKS: usize = 4;

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
    /// Blocks that do not verify, and why.
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
        Place::Folder(root) => {
            blocking(move || stat_folder(&root)).await?.map_err(|source| file(url, source))
        }
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
/// If the store cannot be listed, or if a block cannot be read or deleted.
pub async fn check(
    url: &StoreUrl,
    delete: bool,
    mut progress: impl FnMut(&CheckReport),
) -> Result<CheckReport, MaintenanceError> {
    let place = place(url)?;
    let keys = place.keys(url).await?;
    let mut report = CheckReport { blocks: keys.len() as u64, ..CheckReport::default() };
    let checks = keys.into_iter().map(|key| {
        let (place, url) = (place.clone(), url.clone());
        async move { (key, place.check(&url, key).await) }
    });
    let mut checks = stream::iter(checks).buffer_unordered(CHECKS);
    while let Some((key, checked)) = checks.next().await {
        let checked = checked?;
        report.checked += 1;
        report.bytes += checked.len;
        if let Err(damage) = checked.result {
            if delete {
                place.delete(url, key).await?;
                report.deleted += 1;
            }
            report.damaged.push((key, damage));
        }
        progress(&report);
    }
    Ok(report)
}

/// Deletes the least recently used blocks of a file store until at most `max_bytes` are left. Runs in a tokio
/// runtime.
///
/// # Errors
/// If it is not a file store, or if files cannot be listed or deleted.
pub async fn prune(url: &StoreUrl, max_bytes: u64) -> Result<PruneReport, MaintenanceError> {
    let Place::Folder(root) = place(url)? else {
        let problem = "only file stores can be pruned. Limit Redis with its options maxmemory and \
                       maxmemory-policy allkeys-lru, and S3 with a lifecycle rule";
        return Err(MaintenanceError::Unsupported { url: url.clone(), problem });
    };
    let evicted = blocking(move || evict(&root, max_bytes, max_bytes)).await?;
    let evicted = evicted.map_err(|source| file(url, source))?;
    Ok(PruneReport {
        deleted_blocks: evicted.keys.len() as u64,
        deleted_bytes: evicted.bytes,
        blocks_left: evicted.blocks_left,
        bytes_left: evicted.bytes_left,
    })
}

/// A store that is looked through.
#[derive(Clone)]
enum Place {
    Folder(PathBuf),
    Remote(Remote),
}

/// A block that was checked.
struct Checked {
    len: u64,
    result: Result<(), DamagedBlock>,
}

fn place(url: &StoreUrl) -> Result<Place, MaintenanceError> {
    let store = match &url.0 {
        Location::Folder(root) if root.is_dir() => return Ok(Place::Folder(root.clone())),
        Location::Folder(_) => return Err(MaintenanceError::NoFolder { url: url.clone() }),
        Location::Memory(name) if name.is_empty() => {
            let problem =
                "it belongs to the handle that opened it. Name it, as in memory:name, to share it";
            return Err(MaintenanceError::Unsupported { url: url.clone(), problem });
        }
        Location::Memory(name) => Remote::memory(name),
        Location::Redis(address) => Remote::redis(address, CHECKS),
        #[cfg(feature = "s3")]
        Location::S3 { bucket, prefix } => Remote::s3(bucket, prefix),
    };
    Ok(Place::Remote(store.map_err(|source| remote(url, source))?))
}

impl Place {
    /// The keys of all blocks.
    async fn keys(&self, url: &StoreUrl) -> Result<Vec<BlockKey>, MaintenanceError> {
        match self {
            Self::Folder(root) => {
                let root = root.clone();
                let keys = blocking(move || {
                    let blocks = files(&root).filter_map(|file| match file {
                        Ok(Found::Block(key, _)) => Some(Ok(key)),
                        Ok(Found::Temporary(_)) => None,
                        Err(error) => Some(Err(error)),
                    });
                    blocks.collect::<Result<Vec<_>, _>>()
                });
                keys.await?.map_err(|source| file(url, source))
            }
            Self::Remote(store) => {
                let blocks = list(store, url).await?;
                Ok(blocks.into_iter().map(|(key, _)| key).collect())
            }
        }
    }

    /// Verifies a block. One that has been deleted since it was listed is not damaged.
    async fn check(&self, url: &StoreUrl, key: BlockKey) -> Result<Checked, MaintenanceError> {
        let verify = move |block: &[u8]| Checked {
            len: block.len() as u64,
            result: block::verify(block, key),
        };
        let gone = Checked { len: 0, result: Ok(()) };
        match self {
            Self::Folder(root) => {
                let path = block_path(root, &key);
                let block = blocking(move || {
                    Ok(read_file(&path, block::LONGEST)?.map(|(_, block)| verify(&block)))
                });
                let checked = block.await?.map_err(|source| file(url, source))?;
                Ok(checked.unwrap_or(gone))
            }
            Self::Remote(store) => {
                let block = store.read(key).await.map_err(|source| remote(url, source))?;
                let Some(block) = block else { return Ok(gone) };
                Ok(blocking(move || verify(&block)).await?)
            }
        }
    }

    async fn delete(&self, url: &StoreUrl, key: BlockKey) -> Result<(), MaintenanceError> {
        match self {
            Self::Folder(root) => {
                let path = block_path(root, &key);
                let deleted = blocking(move || delete_file(&path)).await?;
                deleted.map(|_| ()).map_err(|source| file(url, source))
            }
            Self::Remote(store) => store.delete(key).await.map_err(|source| remote(url, source)),
        }
    }
}

fn stat_folder(root: &Path) -> Result<Statistics, FileError> {
    let mut statistics = Statistics::default();
    for file in files(root) {
        let entry = match file? {
            Found::Block(_, entry) => entry,
            Found::Temporary(_) => {
                statistics.temporary_files += 1;
                continue;
            }
        };
        let Some((len, used)) = len_and_use(&entry)? else { continue };
        statistics.blocks += 1;
        statistics.bytes += len;
        let used = Some(used);
        if statistics.least_recently_used.is_none() || used < statistics.least_recently_used {
            statistics.least_recently_used = used;
        }
        statistics.most_recently_used = statistics.most_recently_used.max(used);
    }
    Ok(statistics)
}

async fn list(store: &Remote, url: &StoreUrl) -> Result<Vec<(BlockKey, u64)>, MaintenanceError> {
    store.list().await.map_err(|source| remote(url, source))
}

fn file(url: &StoreUrl, source: FileError) -> MaintenanceError {
    MaintenanceError::File { url: url.clone(), source }
}

fn remote(url: &StoreUrl, source: RemoteError) -> MaintenanceError {
    MaintenanceError::Remote { url: url.clone(), source }
}
