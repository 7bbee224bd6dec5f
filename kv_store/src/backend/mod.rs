//! The stores themselves: bytes under keys, without knowing what a block is.

mod folder;
mod folder_files;
mod redis_list;
mod remote;

#[cfg(test)]
pub(crate) mod faulty;

use std::sync::Arc;

use bytes::Bytes;

pub(crate) use folder::{evict, Folder};
pub use folder_files::FileError;
pub(crate) use folder_files::{block_path, delete_file, files, len_and_use, read_file, Found};
pub(crate) use remote::Remote;
pub use remote::RemoteError;

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

impl Backend {
    /// The bytes under `key`: all of them, or more than `longest` if there are more.
    pub(crate) async fn read(
        &self,
        key: BlockKey,
        longest: usize,
    ) -> Result<Option<Bytes>, BackendError> {
        match self {
            Self::Folder(folder) => {
                let folder = Arc::clone(folder);
                let block = blocking(move || folder.read(key, longest)).await??;
                Ok(block.map(Bytes::from))
            }
            Self::Remote(remote) => Ok(remote.read(key).await?),
            #[cfg(test)]
            Self::Faulty(faulty) => faulty.read(key).await,
        }
    }

    /// Puts what `block` returns under `key`. It is called on a thread that may block. Returns the keys that were deleted
    /// to make room.
    pub(crate) async fn write(
        &self,
        key: BlockKey,
        block: impl FnOnce() -> Buffer + Send + 'static,
    ) -> Result<Vec<BlockKey>, BackendError> {
        match self {
            Self::Folder(folder) => {
                let folder = Arc::clone(folder);
                Ok(blocking(move || folder.write(key, &block())).await??)
            }
            Self::Remote(remote) => {
                remote.write(key, Bytes::from_owner(blocking(block).await?)).await?;
                Ok(Vec::new())
            }
            #[cfg(test)]
            Self::Faulty(faulty) => faulty.write(key, block().to_vec()).await,
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
