//! The blocks of a request that have been read from the store.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use mistralrs_core::ext::BlockHash;
use tokio::sync::OwnedSemaphorePermit;

/// Blocks of a prompt that have been read from the store, until the scheduler admits its sequence.
pub struct Fetched(Mutex<Option<FetchedBlocks>>);

/// Consecutive blocks and their memory, which is given back when this is dropped.
pub(super) struct FetchedBlocks {
    /// The hash of each block and its bytes.
    pub blocks: Vec<(BlockHash, Bytes)>,
    /// The key/value heads that they hold.
    pub heads: usize,
    pub _memory: Vec<OwnedSemaphorePermit>,
}

impl Fetched {
    pub(super) fn new(blocks: FetchedBlocks) -> Self {
        Self(Mutex::new(Some(blocks)))
    }

    /// The blocks. A sequence that is preempted and admitted again finds none.
    pub(super) fn take(&self) -> Option<FetchedBlocks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
