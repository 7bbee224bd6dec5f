//! The options of a KV store.

use std::time::Duration;

use colm_kv_store::{StoreOptions, StoreUrl, UrlError};

use super::prefill_options::PrefillServerOptions;
use crate::error::{Error, Result};

/// A store of KV blocks outside the process, where prompts find blocks that the engine's own prefix cache does not have.
/// See [`EngineBuilder::kv_store`](crate::EngineBuilder::kv_store).
#[derive(Clone, Debug)]
pub struct KvStoreOptions {
    url: StoreUrl,
    max_bytes: Option<u64>,
    timeout: Duration,
    buffer_mib: usize,
    pub(super) always_read: bool,
    pub(super) prefill_server: Option<PrefillServerOptions>,
}

impl KvStoreOptions {
    /// The default of [`Self::timeout`].
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(2000);
    /// The default of [`Self::buffer_mib`].
    pub const DEFAULT_BUFFER_MIB: usize = 512;

    /// The store at `url`: `file:///var/cache/colm/kv`, `redis://host:6379`.
    ///
    /// # Errors
    /// If the URL names no store.
    pub fn new(url: &str) -> Result<Self> {
        // The error names the URL without its password.
        let url: StoreUrl = url.parse().map_err(|error: UrlError| Error::InvalidOption {
            option: "kv_store",
            value: error.url.clone(),
            problem: error.to_string(),
        })?;
        Ok(Self {
            url,
            max_bytes: None,
            timeout: Self::DEFAULT_TIMEOUT,
            buffer_mib: Self::DEFAULT_BUFFER_MIB,
            always_read: false,
            prefill_server: None,
        })
    }

    /// The most bytes that a file store holds; beyond them the least recently used blocks are deleted. Default: no
    /// limit. Other stores have limits of their own.
    pub fn max_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.max_bytes = bytes.into();
        self
    }

    /// The most time that a request waits for the store. Default: [`Self::DEFAULT_TIMEOUT`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The most MiB of blocks that wait to be written, and the same again of blocks that have been read and wait for their
    /// sequence to start. Default: [`Self::DEFAULT_BUFFER_MIB`].
    pub fn buffer_mib(mut self, mib: usize) -> Self {
        self.buffer_mib = mib;
        self
    }

    /// Whether blocks are read even if computing them is faster, by the rates measured so far. Default: false.
    pub fn always_read(mut self, always: bool) -> Self {
        self.always_read = always;
        self
    }

    /// Another process that computes long prompts and puts their blocks into the store. Default: none.
    pub fn prefill_server(mut self, server: impl Into<Option<PrefillServerOptions>>) -> Self {
        self.prefill_server = server.into();
        self
    }

    /// The URL.
    pub(in crate::host) fn url(&self) -> &StoreUrl {
        &self.url
    }

    /// The bytes of [`Self::buffer_mib`].
    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffer_mib.saturating_mul(1024 * 1024)
    }

    pub(super) fn store_options(&self) -> Result<StoreOptions> {
        if self.buffer_mib == 0 {
            return Err(Error::InvalidOption {
                option: "kv_store_buffer_mib",
                value: "0".into(),
                problem: "no block could be read or written, expected 1 or more".into(),
            });
        }
        Ok(StoreOptions {
            url: self.url.clone(),
            max_bytes: self.max_bytes,
            timeout: self.timeout,
            queue_bytes: self.buffer_bytes(),
        })
    }
}
