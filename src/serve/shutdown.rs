//! Listening, and ending in good order.

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

/// How long the engine may take to end the answers, once the server ends.
const ENGINE_GRACE: Duration = Duration::from_secs(2);

/// How long clients may then take to receive what is on its way.
const CLIENT_GRACE: Duration = Duration::from_secs(3);

/// Serves `engine` at `host`, a name or an address, and `port` until a signal: Ctrl-C or SIGTERM. Port 0 is any free
/// port. Writes the address and the model ids to stderr.
///
/// A signal ends the answers in progress, and clients have 5 s to receive them. A second signal ends the server at
/// once.
///
/// # ErrorResponses
/// If the server cannot listen, or if `options` do not fit the model.
pub async fn serve(engine: Engine, host: &str, port: u16, mut options: ServeOptions) -> Result<()> {
    let listener = listen(host, port).await?;
    let address = listener.local_addr().map_err(serve_error)?;
    options.guard.loopback = address.ip().is_loopback();
    let (cut, cut_off) = watch::channel(false);
    let router =
        router(&engine, options)?.layer(from_fn_with_state(Abort(cut_off), end_if_cut_off));
    let mut signals = Signals::new()?;
    let (name, chains) = (engine.name(), engine.loaded_chains());
    say(&format!(
        "Serving the OpenAI API at http://{address}/v1, its description at http://{address}/docs\n\
         Models: {name} (all {chains} chains), {name}@1 to {name}@{chains}; or \"chains\": k"
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
    say("Stopping");
    let _ = stop.send(());
    tokio::select! {
        ended = &mut serving => ended.map_err(serve_error)?,
        () = end_answers(&engine, &cut) => say("Some connections are cut off"),
        () = signals.next() => {}
    }
    Ok(())
}

/// The first address of `host` that can be listened on.
async fn listen(host: &str, port: u16) -> Result<TcpListener> {
    let invalid = |option, value, problem: String| Error::InvalidOption { option, value, problem };
    let invalid_host = |problem: String| invalid("host", host.to_string(), problem);
    let addresses = lookup_host((host, port)).await;
    let addresses =
        addresses.map_err(|error| invalid_host(format!("no such host or address: {error}")))?;
    let mut addresses: Vec<SocketAddr> = addresses.collect();
    // `localhost` is both; clients try the older one first.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut refused = invalid_host("it has no address".into());
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

/// Writes a line to stderr, if that is possible.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Ends all answers and waits for the clients to receive that.
async fn end_answers(engine: &Engine, cut: &watch::Sender<bool>) {
    let _ = timeout(ENGINE_GRACE, end_in_engine(engine)).await;
    cut.send_replace(true);
    sleep(CLIENT_GRACE).await;
}

/// Ends all answers as their endpoints end them.
async fn end_in_engine(engine: &Engine) {
    // Where answers have ended, those that waited for them begin.
    const PAUSE: Duration = Duration::from_millis(20);
    while let Ok(()) = engine.stop_answers().await {
        sleep(PAUSE).await;
    }
}

/// Whether requests are cut off.
#[derive(Clone)]
struct Abort(watch::Receiver<bool>);

impl Abort {
    /// Waits until they are.
    async fn wait(mut self) {
        // A server that is gone has cut them off as well.
        let _ = self.0.wait_for(|cut_off| *cut_off).await;
    }
}

/// Middleware: ends requests that have not ended when they are cut off, such as those that still wait for
/// their turn or have sent half a body.
async fn end_if_cut_off(
    State(cut_off): State<Abort>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let response = tokio::select! {
        biased;
        () = cut_off.clone().wait() => return Err(Error::Stopped.into()),
        response = next.run(request) => response,
    };
    let kind = response.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
        return Ok(response.map(|body| ended_if_cut_off(body, cut_off)));
    }
    Ok(response)
}

/// The events of `body`; an error is the last of them if they are cut off.
fn ended_if_cut_off(body: Body, cut_off: Abort) -> Body {
    let state = (body.into_data_stream(), Box::pin(cut_off.wait()));
    Body::from_stream(stream::unfold(Some(state), |state| async {
        let (mut events, mut cut_off) = state?;
        tokio::select! {
            biased;
            () = &mut cut_off => Some((Ok(stopped_event()), None)),
            event = events.next() => Some((event?, Some((events, cut_off)))),
        }
    }))
}

/// An error as streams have it.
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
        let of = |kind| signal(kind).map_err(serve_error);
        Ok(Self {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
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
