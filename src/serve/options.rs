//! Options of the server.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::api_keys::ApiKeys;
use super::{Elastic, Guard};
use crate::error::{Error, Result};

/// Options of the server. The defaults are those of `colm serve`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeOptions {
    /// The chain count at high load.
    pub elastic: Elastic,
    /// Whether the server answers or only computes prompts. Default: it answers.
    pub role: Role,
    /// Which web pages and host names may use the server.
    pub guard: Guard,
    /// How much work clients may give to the server, and how slow they may be.
    pub limits: ServeLimits,
    /// The keys that clients must present. Without keys every client may use the server.
    pub api_keys: ApiKeys,
    /// Whether the server may listen on an address beyond this machine without keys. Default: false.
    pub no_auth: bool,
    /// The certificate and key for HTTPS. Default: HTTP.
    pub tls: Option<TlsFiles>,
    /// How long the answers in progress may take after a signal. Default: 30 s.
    pub drain_timeout: Duration,
    /// Where the server reports that it starts and stops. Default: stderr.
    pub status_lines: StatusLines,
    /// A second port, for `/metrics` without a key. Default: none; the main port serves `/metrics` behind the key.
    pub metrics_port: Option<u16>,
}

/// Where the lines about the start and the stop of a server go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatusLines {
    /// To stderr, as they are.
    #[default]
    Stderr,
    /// To the log: events of `tracing` with the target `colm::server` and the level INFO.
    Log,
}

impl StatusLines {
    pub(super) fn write(self, text: &str) {
        for line in text.lines() {
            match self {
                // Stderr may be closed.
                Self::Stderr => drop(writeln!(io::stderr(), "{line}")),
                Self::Log => tracing::info!(target: "colm::server", "{line}"),
            }
        }
    }
}

/// What a server is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// It answers requests.
    #[default]
    Answer,
    /// It computes prompts and puts their KV blocks into the store: `POST /v1/prefill`. It gives no answers.
    Prefill,
}

/// Limits of the server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeLimits {
    /// How many answers may wait for one of the sequences that run. Default: 256.
    pub max_queue: usize,
    /// Open connections. Default: 4096.
    pub max_connections: usize,
    /// The largest body of a request, in bytes. Default: 2 MiB and 64 bytes for each token of the context.
    pub max_body_bytes: Option<usize>,
    /// The longest prompt, in tokens. Default: the context.
    pub max_prompt_tokens: Option<usize>,
    /// The longest answer, in tokens. Default: the context.
    pub max_output_tokens: Option<usize>,
    /// From the head of a request to the end of its answer. Default: no limit.
    pub request_timeout: Option<Duration>,
    /// From the first byte of a request to the end of its head; also the time for a TLS handshake. Default: 10 s.
    pub header_timeout: Duration,
    /// Between two pieces of a body. Default: 8 s.
    pub body_timeout: Duration,
    /// Between two requests on a connection. Default: 75 s.
    pub keep_alive_timeout: Duration,
    /// How long a client may refuse to receive more of its response. Default: 60 s.
    pub send_timeout: Duration,
}

impl ServeLimits {
    /// # Errors
    /// If a limit lets no request through.
    pub(super) fn check(&self) -> Result<()> {
        let counts = [
            ("max_connections", Some(self.max_connections)),
            ("max_body_bytes", self.max_body_bytes),
            ("max_prompt_tokens", self.max_prompt_tokens),
            ("max_output_tokens", self.max_output_tokens),
        ];
        let times = [
            ("request_timeout", self.request_timeout),
            ("header_timeout", Some(self.header_timeout)),
            ("body_timeout", Some(self.body_timeout)),
            ("keep_alive_timeout", Some(self.keep_alive_timeout)),
            ("send_timeout", Some(self.send_timeout)),
        ];
        let zero_count = counts.into_iter().find(|(_, count)| *count == Some(0));
        let zero_time = times.into_iter().find(|(_, time)| *time == Some(Duration::ZERO));
        let (option, problem) = match (zero_count, zero_time) {
            (Some((option, _)), _) => (option, "expected at least 1"),
            (None, Some((option, _))) => (option, "expected a time above 0"),
            (None, None) => return Ok(()),
        };
        Err(Error::InvalidOption { option, value: "0".into(), problem: problem.into() })
    }
}

/// The files of a TLS certificate, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those that it depends on, the server's own first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            elastic: Elastic::default(),
            role: Role::default(),
            guard: Guard::default(),
            limits: ServeLimits::default(),
            api_keys: ApiKeys::default(),
            no_auth: false,
            tls: None,
            drain_timeout: Duration::from_secs(30),
            status_lines: StatusLines::default(),
            metrics_port: None,
        }
    }
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            max_queue: 256,
            max_connections: 4096,
            max_body_bytes: None,
            max_prompt_tokens: None,
            max_output_tokens: None,
            request_timeout: None,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(8),
            keep_alive_timeout: Duration::from_secs(75),
            send_timeout: Duration::from_secs(60),
        }
    }
}

impl ServeOptions {
    /// Answers with fewer chains at high load.
    pub fn elastic(mut self, elastic: Elastic) -> Self {
        self.elastic = elastic;
        self
    }

    /// Lets web pages of these origins use the API, such as `https://example.org`.
    pub fn allow_origins(mut self, origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.guard.allow_origins = origins.into_iter().map(Into::into).collect();
        self
    }

    /// What the server is for.
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Tells the server that it listens on a loopback address only. [`serve`](super::serve) finds this out by itself.
    pub fn loopback(mut self, loopback: bool) -> Self {
        self.guard.loopback = loopback;
        self
    }

    /// Sets the limits.
    pub fn limits(mut self, limits: ServeLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Requires one of these keys.
    pub fn api_keys(mut self, keys: ApiKeys) -> Self {
        self.api_keys = keys;
        self
    }
}
