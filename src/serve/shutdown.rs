//! Listening and graceful shutdown.

use std::future::IntoFuture;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{from_fn_with_state, Next};
use axum::response::Response;
use futures::{stream, StreamExt};
use tokio::net::{lookup_host, TcpListener};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::error::ApiError;
use super::{router, ServeOptions};
use crate::{Engine, Error, Result};

/// How long the engine may take to end the answers after a signal.
const ENGINE_GRACE: Duration = Duration::from_secs(2);

/// How long clients may then take to receive the rest of their responses.
const CLIENT_GRACE: Duration = Duration::from_secs(3);

/// Serves `engine` at `host`, a name or an address, and `port` until a signal: Ctrl-C or SIGTERM. Port 0 is any free
/// port. Writes the address and the model ids to stderr.
///
/// A signal ends the answers in progress, and clients have 5 s to receive them. A second signal ends the server at
/// once.
///
/// # Errors
/// If the server cannot listen, or if `options` do not fit the model.
pub async fn serve(engine: Engine, host: &str, port: u16, mut options: ServeOptions) -> Result<()> {
    let listener = listen(host, port).await?;
    let address = listener.local_addr().map_err(serve_error)?;
    options.guard.loopback = address.ip().is_loopback();
    let (abort, aborted) = watch::channel(false);
    let router =
        router(&engine, options)?.layer(from_fn_with_state(Abort(aborted), abort_requests));
    let mut signals = Signals::new()?;
    let (name, chains) = (engine.name(), engine.loaded_chains());
    print_stderr(&format!(
        "Serving the OpenAI API at http://{address}/v1, documentation at http://{address}/docs\n\
         Models: {name} (all {chains} chains), {name}@1 to {name}@{chains}; or use the field \"chains\": k"
    ));
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let mut serving = std::pin::pin!(serving.into_future());
    tokio::select! {
        ended = &mut serving => return ended.map_err(serve_error),
        () = signals.next() => {}
    }
    print_stderr("Stopping");
    let _ = stop.send(());
    tokio::select! {
        ended = &mut serving => ended.map_err(serve_error)?,
        () = end_answers(&engine, &abort) => print_stderr("Closing connections that are still open"),
        () = signals.next() => {}
    }
    Ok(())
}

/// Listens on the first address of `host` that works.
async fn listen(host: &str, port: u16) -> Result<TcpListener> {
    let invalid = |option, value, problem: String| Error::InvalidOption { option, value, problem };
    let invalid_host = |problem: String| invalid("host", host.to_string(), problem);
    let addresses = lookup_host((host, port)).await;
    let addresses =
        addresses.map_err(|error| invalid_host(format!("no such host or address: {error}")))?;
    let mut addresses: Vec<SocketAddr> = addresses.collect();
    // `localhost` has an IPv4 and an IPv6 address. Clients try IPv4 first.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut refused = invalid_host("the host has no address".into());
    for address in addresses {
        refused = match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                let problem = format!("{address} is in use: expected another port");
                return Err(invalid("port", port.to_string(), problem));
            }
            Err(error) => invalid_host(format!("cannot listen on {address}: {error}")),
        };
    }
    Err(refused)
}

fn serve_error(error: std::io::Error) -> Error {
    Error::Serve { source: error.into() }
}

/// Writes a line to stderr and ignores errors: stderr may be closed.
fn print_stderr(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Ends all answers, then waits for the clients to receive their responses.
async fn end_answers(engine: &Engine, abort: &watch::Sender<bool>) {
    let _ = timeout(ENGINE_GRACE, end_in_engine(engine)).await;
    abort.send_replace(true);
    sleep(CLIENT_GRACE).await;
}

/// Stops the answers in the engine, so that their endpoints respond with an error.
async fn end_in_engine(engine: &Engine) {
    // Answers that were waiting start when others end, and must be stopped as well.
    const PAUSE: Duration = Duration::from_millis(20);
    while let Ok(()) = engine.stop_answers().await {
        sleep(PAUSE).await;
    }
}

/// Signals that all requests must end now.
#[derive(Clone)]
struct Abort(watch::Receiver<bool>);

impl Abort {
    /// Waits for the signal.
    async fn wait(mut self) {
        // An error means that the server has dropped the sender, which is a signal as well.
        let _ = self.0.wait_for(|aborted| *aborted).await;
    }
}

/// Middleware: on the signal, ends requests that are still running, such as those that wait in the queue or have sent
/// half a body.
async fn abort_requests(
    State(abort): State<Abort>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let response = tokio::select! {
        biased;
        () = abort.clone().wait() => return Err(Error::Stopped.into()),
        response = next.run(request) => response,
    };
    let kind = response.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
        return Ok(response.map(|body| abortable(body, abort)));
    }
    Ok(response)
}

/// The server-sent events of `body`. On the signal, an error is the last event.
fn abortable(body: Body, abort: Abort) -> Body {
    let state = (body.into_data_stream(), Box::pin(abort.wait()));
    Body::from_stream(stream::unfold(Some(state), |state| async {
        let (mut events, mut aborted) = state?;
        tokio::select! {
            biased;
            () = &mut aborted => Some((Ok(stopped_event()), None)),
            event = events.next() => Some((event?, Some((events, aborted)))),
        }
    }))
}

/// The error event of a stopped engine.
fn stopped_event() -> Bytes {
    let body = ApiError::from(Error::Stopped).body();
    let data = serde_json::to_string(&body).unwrap_or_default();
    format!("data: {data}\n\n").into()
}

/// Ctrl-C and SIGTERM.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> Result<Self> {
        use tokio::signal::unix::{signal, SignalKind};
        let listen = |kind| signal(kind).map_err(serve_error);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn new() -> Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
