//! Another process that computes prompts and puts their blocks into the store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use colm_kv_store::{without_password, CircuitBreaker, Permit};
use serde_json::{json, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use super::prefill_options::PrefillServerOptions;
use crate::error::Error;

/// The maximum number of concurrent calls. Each holds a blocking thread until the server has answered; tokio has 512.
const MAX_CONCURRENT_CALLS: usize = 64;

/// A client of the server.
pub struct PrefillServer {
    calls: Arc<Calls>,
    threshold: usize,
    /// A permit for each call that may begin.
    call_permits: Arc<Semaphore>,
}

/// What the calls share.
struct Calls {
    agent: ureq::Agent,
    endpoint: String,
    key: Option<String>,
    breaker: Arc<CircuitBreaker>,
    begun: AtomicUsize,
    failed: AtomicUsize,
}

/// The right to ask for one prompt.
pub struct Call {
    calls: Arc<Calls>,
    permit: Permit,
    call_permit: OwnedSemaphorePermit,
}

/// The server says that the blocks of a prompt are in the store. Whoever looks there reports what it finds.
#[must_use]
pub struct Computed {
    calls: Arc<Calls>,
    permit: Permit,
}

impl PrefillServer {
    /// # Errors
    /// If the URL is not that of an HTTP server. The server need not run yet.
    pub fn new(options: &PrefillServerOptions) -> crate::error::Result<Self> {
        let base = options.url.trim_end_matches('/');
        let host = ["http://", "https://"].iter().find_map(|scheme| base.strip_prefix(scheme));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@', ' '])) {
            return Err(Error::InvalidOption {
                option: "prefill",
                value: without_password(&options.url),
                problem:
                    "expected the address of a server, such as http://host:1234, without a user"
                        .into(),
            });
        }
        let agent = ureq::AgentBuilder::new()
            .timeout_connect(Duration::from_secs(2))
            .timeout(options.timeout)
            .redirects(0)
            .build();
        // One failure may have taken a minute.
        let breaker = CircuitBreaker::new(format!("prompts for {base}"), 1, Box::new(Instant::now));
        let calls = Calls {
            agent,
            endpoint: format!("{base}/v1/prefill"),
            key: options.key.clone(),
            breaker: Arc::new(breaker),
            begun: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
        };
        let call_permits = Arc::new(Semaphore::new(MAX_CONCURRENT_CALLS));
        Ok(Self { calls: Arc::new(calls), threshold: options.threshold, call_permits })
    }

    /// The right to ask the server for a prompt of which `missing` tokens are not known, if that is worth it. None during
    /// the pause after a failure, and while [`MAX_CONCURRENT_CALLS`] run.
    pub fn call(&self, missing: usize) -> Option<Call> {
        if missing < self.threshold.max(1) {
            return None;
        }
        let call_permit = Arc::clone(&self.call_permits).try_acquire_owned().ok()?;
        let permit = self.calls.breaker.permit()?;
        Some(Call { calls: Arc::clone(&self.calls), permit, call_permit })
    }

    /// How many prompts the server was asked for.
    pub fn begun(&self) -> usize {
        self.calls.begun.load(Ordering::Relaxed)
    }

    /// How many of them it did not compute.
    pub fn failed(&self) -> usize {
        self.calls.failed.load(Ordering::Relaxed)
    }
}

impl Call {
    /// Lets the server compute `prompt` at `k` chains. Then its blocks are in the store. None if the server fails or
    /// refuses the request, which is logged.
    ///
    /// The call continues when nobody waits for it any more, so a server that hangs is detected although clients give up.
    pub async fn prefill(self, prompt: &[u32], k: usize) -> Option<Computed> {
        let Self { calls, permit, call_permit } = self;
        calls.begun.fetch_add(1, Ordering::Relaxed);
        // The server computes the prompt's blocks; the answer is computed here.
        let body = json!({ "prompt": prompt, "chains": k, "max_tokens": 0 });
        let shared = Arc::clone(&calls);
        let task = tokio::task::spawn_blocking(move || {
            // Released when the call has ended.
            let _call_permit = call_permit;
            let reason = match calls.send(&body) {
                Ok(()) => return Some(Computed { calls, permit }),
                // The server works.
                Err(Refusal::Request(reason)) => {
                    permit.succeeded();
                    reason
                }
                Err(Refusal::Server(reason)) => {
                    permit.failed();
                    reason
                }
            };
            calls.count_and_log_failure(&reason);
            None
        });
        task.await.unwrap_or_else(|error| {
            shared.count_and_log_failure(&error.to_string());
            None
        })
    }
}

impl Computed {
    /// The store has blocks of the prompt, or does not tell.
    pub fn stored(self) {
        self.permit.succeeded();
    }

    /// The store has no block of the prompt.
    pub fn not_stored(self) {
        self.permit.failed();
        self.calls.count_and_log_failure(
            "it has answered, but the store has no block of the prompt. Has the server the same store, model, dtypes, \
             block size and kind of processor?",
        );
    }
}

impl Calls {
    /// Sends a request and waits for the answer.
    fn send(&self, body: &Value) -> Result<(), Refusal> {
        let mut request = self.agent.post(&self.endpoint).set("Content-Type", "application/json");
        if let Some(key) = &self.key {
            request = request.set("Authorization", &format!("Bearer {key}"));
        }
        request.send_string(&body.to_string()).map(|_| ()).map_err(Refusal::from)
    }

    /// The server did not compute a prompt.
    fn count_and_log_failure(&self, reason: &str) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        warn!("{}: {reason}; the prompt is computed here", self.endpoint);
    }
}

/// Why a prompt was not computed.
enum Refusal {
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
    use std::net::TcpListener;
    use std::sync::mpsc;

    use super::*;

    fn server(url: &str, threshold: usize) -> PrefillServer {
        PrefillServer::new(&PrefillServerOptions::new(url).threshold(threshold)).unwrap()
    }

    #[test]
    fn the_server_is_never_asked_for_nothing() {
        for (threshold, missing, asked) in
            [(0, 0, false), (0, 1, true), (1, 0, false), (64, 63, false), (64, 64, true)]
        {
            let server = server("http://localhost:1", threshold);
            assert_eq!(server.call(missing).is_some(), asked, "{threshold}: {missing}");
        }
    }

    #[test]
    fn only_so_many_calls_run_at_once() {
        let server = server("http://localhost:1", 1);
        let calls: Vec<_> = (0..MAX_CONCURRENT_CALLS).map(|_| server.call(1).unwrap()).collect();
        assert!(server.call(1).is_none());
        drop(calls);
        assert!(server.call(1).is_some());
    }

    #[tokio::test]
    async fn a_failure_is_noticed_although_nobody_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = server(&format!("http://{}", listener.local_addr().unwrap()), 1);
        let (hang_up, hung_up) = mpsc::channel();
        // Says nothing until it hangs up.
        std::thread::spawn(move || {
            let connection = listener.accept();
            hung_up.recv().unwrap();
            drop((connection, listener));
        });
        let mut waiting = Box::pin(server.call(1).unwrap().prefill(&[1, 2, 3], 1));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(waiting);
        assert_eq!(
            server.call_permits.available_permits(),
            MAX_CONCURRENT_CALLS - 1,
            "the call goes on"
        );
        assert!(!server.calls.breaker.is_open());
        hang_up.send(()).unwrap();
        let ended = async {
            while server.call_permits.available_permits() < MAX_CONCURRENT_CALLS {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the call hangs");
        assert!(server.calls.breaker.is_open());
        assert_eq!((server.begun(), server.failed()), (1, 1));
    }
}
