//! What the engine tells a store.

use std::time::Duration;

use crate::StoreUrl;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Where it is.
    pub url: StoreUrl,
    /// Size of a file store: at more bytes, the least recently used blocks are deleted until a tenth is free, of each
    /// prompt the last blocks first. If several processes share the folder, each can exceed it by a twentieth.
    /// `None` is no limit. Other stores have limits of their own (Redis: `maxmemory`, with
    /// `maxmemory-policy allkeys-lru`), so for them it must be `None`.
    pub max_bytes: Option<u64>,
    /// How long a read of a prompt's blocks may take, connecting included. A write may take ten times as long. It must
    /// not be zero.
    pub timeout: Duration,
    /// Bytes of the payloads that may wait to be written.
    pub queue_bytes: usize,
}
