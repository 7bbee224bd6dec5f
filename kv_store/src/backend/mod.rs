//! The stores themselves: bytes under keys, without knowing what a block is.

mod access;
mod evict;
mod folder;
mod folder_files;
mod redis_store;
mod remote;

#[cfg(test)]
pub(crate) mod faulty;

use std::sync::Arc;

use bytes::Bytes;

pub(crate) use evict::{evict, Evicted};
pub(crate) use folder::{BlockFile, Folder};
pub use folder_files::FileError;
pub(crate) use folder_files::{
    delete_file, delete_stale_files, files, len_and_use, open_block, Found, Opened, Skipped,
};
pub(crate) use redis_store::Patience;
pub(crate) use remote::Remote;
pub use remote::RemoteError;

use crate::block::DamagedBlock;
use crate::buffers::Buffer;
use crate::BlockKey;

/// Where blocks are kept.
#[derive(Clone)]
pub(crate) enum Backend {
    Folder(Arc<Folder>),
    Remote(Remote),
    #[cfg(test)]
    Faulty(Arc<faulty::Faulty>),
}

/// The store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("the thread of the operation ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
    #[cfg(test)]
    #[error("the test wants an error")]
    Wanted,
}

impl BackendError {
    /// Whether something is in the way of one block alone, which does not keep others from being written.
    pub(crate) fn concerns_one_entry(&self) -> bool {
        matches!(self, Self::File(error) if error.concerns_one_entry())
    }
}

/// What a store has for a block.
pub(crate) enum Stored {
    Missing,
    /// Its bytes, not verified, and its file if it has one.
    Block(Bytes, Option<BlockFile>),
    /// Something that cannot be read.
    Unusable(DamagedBlock),
}

impl From<Option<Bytes>> for Stored {
    fn from(block: Option<Bytes>) -> Self {
        block.map_or(Self::Missing, |block| Self::Block(block, None))
    }
}

impl Backend {
    /// The bytes under `key`: all of them, or more than `longest` if there are more.
    pub(crate) async fn read(&self, key: BlockKey, longest: usize) -> Result<Stored, BackendError> {
        match self {
            Self::Folder(folder) => {
                let folder = Arc::clone(folder);
                Ok(blocking(move || folder.read(key, longest)).await??)
            }
            Self::Remote(remote) => Ok(remote.read(key, longest).await?.into()),
            #[cfg(test)]
            Self::Faulty(faulty) => Ok(faulty.read(key).await?.into()),
        }
    }

    /// Whether there is something under `key`.
    pub(crate) async fn exists(&self, key: BlockKey) -> Result<bool, BackendError> {
        match self {
            Self::Folder(folder) => {
                let folder = Arc::clone(folder);
                Ok(blocking(move || folder.exists(key)).await??)
            }
            Self::Remote(remote) => Ok(remote.exists(key).await?),
            #[cfg(test)]
            Self::Faulty(faulty) => Ok(faulty.read(key).await?.is_some()),
        }
    }

    /// Puts what `block` returns under `key`. It is called on a thread that may block. `index` is the block's place in
    /// its prompt. Returns what was deleted to make room.
    pub(crate) async fn write(
        &self,
        key: BlockKey,
        index: usize,
        block: impl FnOnce() -> Buffer + Send + 'static,
    ) -> Result<Evicted, BackendError> {
        match self {
            Self::Folder(folder) => {
                let folder = Arc::clone(folder);
                Ok(blocking(move || folder.write(key, index, &block())).await??)
            }
            Self::Remote(remote) => {
                remote.write(key, Bytes::from_owner(blocking(block).await?)).await?;
                Ok(Evicted::default())
            }
            #[cfg(test)]
            Self::Faulty(faulty) => {
                faulty.write(key, block().to_vec()).await?;
                Ok(Evicted::default())
            }
        }
    }

    /// Removes a block that does not verify. A remote store keeps it until it is written again.
    pub(crate) async fn discard(&self, key: BlockKey) -> Result<(), BackendError> {
        match self {
            Self::Folder(folder) => {
                let folder = Arc::clone(folder);
                Ok(blocking(move || folder.delete(key)).await??)
            }
            Self::Remote(_) => Ok(()),
            #[cfg(test)]
            Self::Faulty(_) => Ok(()),
        }
    }

    /// Whether an error may mean that the blocks are gone: a server was restarted. A folder keeps its files.
    pub(crate) fn may_have_lost_blocks(&self) -> bool {
        !matches!(self, Self::Folder(_))
    }

    /// The size of the largest block worth writing.
    pub(crate) fn longest_block(&self) -> usize {
        match self {
            Self::Folder(folder) => folder.longest_block(),
            _ => usize::MAX,
        }
    }
}

/// Runs `task` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    task: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    tokio::task::spawn_blocking(task).await
}
