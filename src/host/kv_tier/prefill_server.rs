//! Another process that computes prompts and puts their blocks into the store.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use colm_kv_store::{CircuitBreaker, Permit};
use serde_json::json;
use tracing::warn;

use crate::error::Error;

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

    /// The server is asked for prompts of which at least so many tokens are neither in the pool nor in the store; never
    /// if there are none. Default: [`Self::DEFAULT_THRESHOLD`].
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
    breaker: CircuitBreaker,
}

impl PrefillServer {
    /// # Errors
    /// If the URL is none of an HTTP server. The server need not run yet.
    pub fn new(options: &PrefillServerOptions) -> crate::error::Result<Self> {
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
            // One failure may have taken a minute.
            breaker: CircuitBreaker::new(format!("prompts for {base}"), 1, Box::new(Instant::now)),
        })
    }

    /// The right to ask the server for a prompt of which `missing` tokens are not known, if that is worth it. None while a
    /// server that has failed is left alone.
    pub fn permit(&self, missing: usize) -> Option<Permit<'_>> {
        (missing >= self.threshold.max(1)).then(|| self.breaker.permit())?
    }

    /// Lets the server compute `prompt` at `k` chains. Then its blocks are in the store.
    ///
    /// # Errors
    /// If the server fails, or refuses the request.
    pub async fn prefill(&self, prompt: &[u32], k: usize) -> Result<(), Refusal> {
        // The server computes the prompt's blocks; the answer is computed here.
        let body = json!({ "prompt": prompt, "chains": k, "max_tokens": 0 });
        let mut request = self.agent.post(&self.endpoint);
        if let Some(key) = &self.key {
            request = request.set("Authorization", &format!("Bearer {key}"));
        }
        let sent = tokio::task::spawn_blocking(move || {
            let request = request.set("Content-Type", "application/json");
            request.send_string(&body.to_string()).map(|_| ()).map_err(Refusal::from)
        });
        sent.await.unwrap_or_else(|error| Err(Refusal::Server(error.to_string())))
    }

    /// Logs why the server did not compute a prompt.
    pub fn warn(&self, reason: &str) {
        warn!("{}: {reason}; the prompt is computed here", self.endpoint);
    }
}

/// Why a prompt was not computed.
pub enum Refusal {
    /// The request is at fault: another one may succeed.
    Request(String),
    /// The server or the way to it is.
    Server(String),
}

impl From<ureq::Error> for Refusal {
    fn from(error: ureq::Error) -> Self {
        match error {
            // Such as more chains than the server has, or a prompt that is too long for it.
            ureq::Error::Status(status @ (400 | 413 | 422), answer) => {
                Self::Request(reason(status, answer))
            }
            ureq::Error::Status(status, answer) => Self::Server(reason(status, answer)),
            ureq::Error::Transport(error) => Self::Server(error.to_string()),
        }
    }
}

fn reason(status: u16, answer: ureq::Response) -> String {
    let text: String = answer.into_string().unwrap_or_default().chars().take(300).collect();
    format!("status {status} {}", text.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_never_asked_for_nothing() {
        for (threshold, missing, asked) in
            [(0, 0, false), (0, 1, true), (1, 0, false), (64, 63, false), (64, 64, true)]
        {
            let options = PrefillServerOptions::new("http://localhost:1").threshold(threshold);
            let server = PrefillServer::new(&options).unwrap();
            assert_eq!(server.permit(missing).is_some(), asked, "{threshold}: {missing}");
        }
    }
}
