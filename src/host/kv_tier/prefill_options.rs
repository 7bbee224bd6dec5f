//! The options of a prefill server.

use std::fmt;
use std::time::Duration;

/// A server that computes long prompts for this one: `colm serve --role prefill` with the same KV store. See
/// [`KvStoreOptions::prefill_server`](super::KvStoreOptions::prefill_server).
#[derive(Clone)]
pub struct PrefillServerOptions {
    pub(super) url: String,
    pub(super) key: Option<String>,
    pub(super) threshold: usize,
    pub(super) timeout: Duration,
}

impl PrefillServerOptions {
    /// The default of [`Self::threshold`].
    pub const DEFAULT_THRESHOLD: usize = 512;
    /// The default of [`Self::timeout`].
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

    /// The server at `url`, such as `http://host:1234`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            key: None,
            threshold: Self::DEFAULT_THRESHOLD,
            timeout: Self::DEFAULT_TIMEOUT,
        }
    }

    /// The API key of the server. Default: none.
    pub fn key(mut self, key: impl Into<Option<String>>) -> Self {
        self.key = key.into();
        self
    }

    /// The server is asked for prompts of which at least this many tokens are neither in the pool nor in the store,
    /// and never for 0 tokens. Default: [`Self::DEFAULT_THRESHOLD`].
    pub fn threshold(mut self, tokens: usize) -> Self {
        self.threshold = tokens;
        self
    }

    /// How long the server may take. After that, the prompt is computed here. Default: [`Self::DEFAULT_TIMEOUT`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl fmt::Debug for PrefillServerOptions {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrefillServerOptions")
            .field("url", &self.url)
            .field("threshold", &self.threshold)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
