//! Connections: accepts them, up to a number, and closes those that are slow, idle or not read.

mod activity;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{watch, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::guarded_body::GuardedBody;
use super::options::ServeLimits;
use activity::{Activity, Watched};

/// How long the server waits before it accepts again after an error, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the connections of a listener share.
#[derive(Clone)]
pub struct Connections {
    router: Router,
    limits: Arc<ServeLimits>,
    tls: Option<TlsAcceptor>,
    /// A permit per open connection.
    slots: Arc<Semaphore>,
    /// Whether connections are to be closed as soon as their response is complete.
    closing: watch::Receiver<bool>,
}

impl Connections {
    /// Connections that are answered by `router`. They close when `closing` is true.
    pub fn new(
        router: Router,
        limits: ServeLimits,
        tls: Option<TlsAcceptor>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
        Self { router, limits: Arc::new(limits), tls, slots, closing }
    }

    /// Accepts connections until they are to close.
    pub async fn accept(self, listener: TcpListener) {
        let mut closing = self.closing.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => return,
                accepted = self.next(&listener) => accepted,
            };
            match accepted {
                Ok((stream, slot)) => drop(tokio::spawn(self.clone().serve(stream, slot))),
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits until all connections have ended.
    pub async fn ended(&self) {
        let all = self.limits.max_connections.min(Semaphore::MAX_PERMITS) as u32;
        // The semaphore is never closed.
        let _ = self.slots.acquire_many(all).await;
    }

    /// The next connection, once there is room for one.
    async fn next(
        &self,
        listener: &TcpListener,
    ) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let slot = self.slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
        let (stream, _) = listener.accept().await?;
        Ok((stream, slot))
    }

    async fn serve(self, stream: TcpStream, _slot: OwnedSemaphorePermit) {
        // Tokens are small, and each is to arrive at once.
        let _ = stream.set_nodelay(true);
        let Some(tls) = self.tls.clone() else { return self.serve_http(stream).await };
        // A client that fails or takes too long is not worth a log line: port scanners do both.
        if let Ok(Ok(stream)) = timeout(self.limits.header_timeout, tls.accept(stream)).await {
            self.serve_http(stream).await;
        }
    }

    async fn serve_http(self, stream: impl activity::ByteStream) {
        let activity = Activity::new();
        let router = self.router;
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let busy = activity.begin_request();
            let answered = router.clone().oneshot(request.map(Body::new));
            async move {
                let Ok(response) = answered.await;
                // The connection is busy until the body has been sent.
                Ok::<_, Infallible>(response.map(|body| GuardedBody::new(body, busy)))
            }
        });
        let stream = TokioIo::new(Watched::new(stream, activity.clone()));
        // `Activity` bounds the time for the head of a request, and knows the other phases of a connection as well.
        let mut http = http1::Builder::new();
        let connection = http.header_read_timeout(None).serve_connection(stream, service);
        let mut connection = std::pin::pin!(connection);
        let mut closing = self.closing;
        let mut closes = false;
        loop {
            tokio::select! {
                // An error is the client's: it has left, or has sent something else than HTTP.
                _ = &mut connection => return,
                () = activity.overdue(&self.limits) => return,
                _ = closing.wait_for(|closing| *closing), if !closes => {
                    closes = true;
                    if !activity.is_busy() {
                        return;
                    }
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}
