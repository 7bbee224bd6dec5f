//! What a connection is doing, and since when.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

use crate::serve::guarded_body::BodyGuard;
use crate::serve::options::ServeLimits;

/// A stream of bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for S {}

/// What a connection is doing.
#[derive(Clone, Debug)]
pub struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Since when the client receives nothing, although there is something to send.
    send_blocked: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It receives the head of a request. A new connection is expected to send one at once.
    Head,
    /// A request is being received, computed or answered.
    Busy,
    /// It waits for another request.
    Idle,
}

impl Activity {
    /// Of a new connection.
    pub fn new() -> Self {
        let state = State { phase: Phase::Head, since: Instant::now(), send_blocked: None };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The head of a request has been received. The connection is busy until the returned guard is dropped.
    pub fn begin_request(&self) -> Busy {
        self.state().enter(Phase::Busy);
        Busy(self.clone())
    }

    /// Whether a request is being received, computed or answered.
    pub fn is_busy(&self) -> bool {
        self.state().phase == Phase::Busy
    }

    /// Waits until the connection has been in its phase for longer than `limits` allow.
    pub async fn overdue(&self, limits: &ServeLimits) {
        let shortest =
            limits.header_timeout.min(limits.keep_alive_timeout).min(limits.send_timeout);
        let pause = (shortest / 4).clamp(Duration::from_millis(50), Duration::from_secs(2));
        while !self.state().is_overdue(limits) {
            sleep(pause).await;
        }
    }

    /// A poisoned lock is safe to reuse: each change is complete within one statement.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        (self.phase, self.since) = (phase, Instant::now());
    }

    fn is_overdue(&self, limits: &ServeLimits) -> bool {
        let in_phase = self.since.elapsed();
        let phase = match self.phase {
            Phase::Head => in_phase > limits.header_timeout,
            Phase::Idle => in_phase > limits.keep_alive_timeout,
            Phase::Busy => false,
        };
        phase || self.send_blocked.is_some_and(|since| since.elapsed() > limits.send_timeout)
    }
}

/// Guard of a request: its connection is busy until this is dropped.
pub struct Busy(Activity);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.state().enter(Phase::Idle);
    }
}

impl BodyGuard for Busy {}

/// A stream that reports to an [`Activity`] when it receives and when it cannot send.
pub struct Watched<S> {
    stream: S,
    activity: Activity,
}

impl<S> Watched<S> {
    /// `stream`, which reports to `activity`.
    pub fn new(stream: S, activity: Activity) -> Self {
        Self { stream, activity }
    }

    fn sent<T>(&self, sent: Poll<T>) -> Poll<T> {
        let mut state = self.activity.state();
        match sent {
            Poll::Ready(_) => state.send_blocked = None,
            Poll::Pending => {
                state.send_blocked.get_or_insert_with(Instant::now);
            }
        }
        sent
    }
}

impl<S: ByteStream> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            let mut state = self.activity.state();
            if state.phase == Phase::Idle {
                state.enter(Phase::Head);
            }
        }
        read
    }
}

impl<S: ByteStream> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.sent(sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.sent(sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_flush(context);
        self.sent(sent)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_shutdown(context);
        self.sent(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> ServeLimits {
        ServeLimits {
            header_timeout: Duration::from_millis(100),
            keep_alive_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_millis(100),
            ..ServeLimits::default()
        }
    }

    #[tokio::test]
    async fn a_busy_connection_is_not_overdue_unless_its_client_stops_reading() {
        let limits = limits();
        let activity = Activity::new();
        activity.overdue(&limits).await;
        let busy = activity.begin_request();
        let waited = tokio::time::timeout(Duration::from_millis(300), activity.overdue(&limits));
        assert!(waited.await.is_err(), "busy");
        activity.state().send_blocked = Some(Instant::now());
        activity.overdue(&limits).await;
        activity.state().send_blocked = None;
        drop(busy);
        assert!(!activity.is_busy());
        let waited = tokio::time::timeout(Duration::from_millis(300), activity.overdue(&limits));
        assert!(waited.await.is_err(), "idle");
    }
}
