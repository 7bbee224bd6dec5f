//! Another process that computes prompts and puts their blocks into the store.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tracing::warn;

use crate::error::{Error, Result};

/// How long a server that has failed is left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// A server that computes long prompts for this one: `colm serve --role prefill` with the same KV store. See
/// [`KvStoreOptions::prefill_server`](super::KvStoreOptions::prefill_server).
#[derive(Clone)]
pub struct PrefillServerOptions {
    url: String,
    key: Option<String>,
    threshold: usize,
    timeout: Duration,
}

impl PrefillServerOptions {
    /// The limit of [`Self::threshold`], unless it is called.
    pub const DEFAULT_THRESHOLD: usize = 512;
    /// The limit of [`Self::timeout`], unless it is called.
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

    /// The server is asked for prompts of which at least so many tokens are neither in the pool nor in the store. Default:
    /// [`Self::DEFAULT_THRESHOLD`].
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

/// A client of the server.
pub struct PrefillServer {
    agent: ureq::Agent,
    endpoint: Arc<str>,
    key: Option<Arc<str>>,
    threshold: usize,
    /// Until when a server that has failed is left alone.
    paused: Mutex<Option<Instant>>,
}

impl PrefillServer {
    /// # Errors
    /// If the URL is none of an HTTP server. The server need not run yet.
    pub fn new(options: &PrefillServerOptions) -> Result<Self> {
        let base = options.url.trim_end_matches('/');
        let host = ["http://", "https://"].iter().find_map(|scheme| base.strip_prefix(scheme));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@', ' '])) {
            return Err(Error::InvalidOption {
                option: "prefill",
                value: options.url.clone(),
                problem: "expected the address of a server, such as http://host:1234".into(),
            });
        }
        let agent = ureq::AgentBuilder::new()
            .timeout_connect(Duration::from_secs(2))
            .timeout(options.timeout)
            .redirects(0)
            .build();
        Ok(Self {
            agent,
            endpoint: format!("{base}/v1/prefill").into(),
            key: options.key.as_deref().map(Into::into),
            threshold: options.threshold,
            paused: Mutex::new(None),
        })
    }

    /// Whether the server should be asked for a prompt of which `missing` tokens are not known.
    pub fn is_worth(&self, missing: usize) -> bool {
        let paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        missing >= self.threshold && paused.is_none_or(|until| Instant::now() >= until)
    }

    /// Lets the server compute `prompt` at `k` chains. Returns whether its blocks are in the store then. A server that
    /// fails is left alone for a while.
    pub async fn prefill(&self, prompt: &[u32], k: usize) -> bool {
        // The server computes the prompt's blocks; the answer is computed here.
        let body = json!({ "prompt": prompt, "chains": k, "max_tokens": 0 });
        let mut request = self.agent.post(&self.endpoint);
        if let Some(key) = &self.key {
            request = request.set("Authorization", &format!("Bearer {key}"));
        }
        let sent = tokio::task::spawn_blocking(move || {
            let request = request.set("Content-Type", "application/json");
            request.send_string(&body.to_string()).map(|_| ()).map_err(|error| error.to_string())
        });
        let failure = match sent.await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error,
            Err(error) => error.to_string(),
        };
        self.pause(&failure);
        false
    }

    /// Leaves the server alone for a while.
    pub fn pause(&self, failure: &str) {
        warn!("{}: {failure}; prompts are computed here for {} s", self.endpoint, PAUSE.as_secs());
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = Some(Instant::now() + PAUSE);
    }
}
