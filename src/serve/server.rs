//! Listening and graceful shutdown.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::{lookup_host, TcpListener};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::connections::Connections;
use super::options::{Role, ServeOptions, StatusLines};
use super::routes::{metrics_router, App};
use super::tls;
use crate::{Engine, Error, Result};

/// How long the engine may take to end the answers when the time to finish them is over.
const ENGINE_GRACE: Duration = Duration::from_secs(2);

/// How long clients may then take to receive the rest of their responses.
const CLIENT_GRACE: Duration = Duration::from_secs(3);

/// Serves `engine` at `host`, a name or an address, and `port` until a signal: Ctrl-C or SIGTERM. Port 0 is any free
/// port. Writes the address and the model ids to stderr.
///
/// After a signal, `/ready` and new requests get status 503, and requests in progress may take as long as
/// [`ServeOptions::drain_timeout`] says. Then they end with an error, and clients have 5 s to receive it. A second signal
/// ends the server at once.
///
/// # Errors
/// If the server cannot listen, if it would be open to other machines without a key, or if `options` do not fit the
/// model.
pub async fn serve(engine: Engine, host: &str, port: u16, mut options: ServeOptions) -> Result<()> {
    options.limits.check()?;
    let listener = listen(host, "port", port).await?;
    let address = listener.local_addr().map_err(serve_error)?;
    options.guard.loopback = address.ip().is_loopback();
    check_keys(host, &options)?;
    let tls = options.tls.as_ref().map(tls::acceptor).transpose()?;
    let (scheme, limits) = (if tls.is_some() { "https" } else { "http" }, options.limits.clone());
    let metrics = match options.metrics_port {
        Some(port) => Some(listen(host, "metrics_port", port).await?),
        None => None,
    };
    let (role, drain_timeout) = (options.role, options.drain_timeout);
    let status_lines = options.status_lines;
    let app = App::new(&engine, options)?;
    let mut signals = Signals::new()?;
    let (close, closing) = watch::channel(false);
    let (name, chains) = (engine.name(), engine.loaded_chains());
    let served = match role {
        Role::Answer => "the OpenAI API",
        Role::Prefill => "POST /v1/prefill for other servers",
    };
    let models = match chains.get() {
        1 => format!("Model: {name} (1 chain)"),
        _ => format!(
            "Models: {name} (all {chains} chains), {name}@1 to {name}@{chains}; or use the field \"chains\": k"
        ),
    };
    status_lines.write(&format!(
        "Serving {served} at {scheme}://{address}/v1, documentation at {scheme}://{address}/docs\n{models}"
    ));
    let open = |router: Router, tls| Connections::new(router, limits.clone(), tls, closing.clone());
    if let Some(listener) = metrics {
        let address = listener.local_addr().map_err(serve_error)?;
        status_lines.write(&format!("Metrics at http://{address}/metrics"));
        tokio::spawn(open(metrics_router(&app), None).accept(listener));
    }
    let connections = open(app.router.clone(), tls);
    tokio::spawn(connections.clone().accept(listener));
    signals.next().await;
    tokio::select! {
        () = stop(&engine, &app, &connections, &close, drain_timeout, status_lines) => {}
        () = signals.next() => {}
    }
    Ok(())
}

/// Fails if other machines can reach the server and it has no keys.
fn check_keys(host: &str, options: &ServeOptions) -> Result<()> {
    if options.guard.loopback || options.no_auth || !options.api_keys.is_empty() {
        return Ok(());
    }
    Err(Error::InvalidOption {
        option: "host",
        value: host.into(),
        problem: "other machines could use the server without a key, expected `api_keys`, or `no_auth` if something \
                  else controls who reaches it"
            .into(),
    })
}

/// Ends the requests in progress, within their time, and then the connections.
async fn stop(
    engine: &Engine,
    app: &App,
    connections: &Connections,
    close: &watch::Sender<bool>,
    drain_timeout: Duration,
    status_lines: StatusLines,
) {
    app.admission.drain();
    match app.admission.requests() {
        0 => status_lines.write("Stopping"),
        requests => status_lines.write(&format!(
            "Stopping: {requests} requests in progress may take {} s, a second signal stops at once",
            drain_timeout.as_secs()
        )),
    }
    if timeout(drain_timeout, app.drained()).await.is_err() {
        let _ = timeout(ENGINE_GRACE, end_in_engine(engine, app)).await;
    }
    // Requests whose body is not complete, and answers that the engine did not end.
    app.interrupt.abort();
    close.send_replace(true);
    if timeout(CLIENT_GRACE, connections.ended()).await.is_err() {
        status_lines.write("Closing connections that are still open");
    }
}

/// Stops the answers in the engine, so that their endpoints respond with an error.
async fn end_in_engine(engine: &Engine, app: &App) {
    // Answers that were waiting start when others end, and must be stopped as well.
    const PAUSE: Duration = Duration::from_millis(20);
    while app.admission.requests() > 0 && engine.stop_answers().await.is_ok() {
        sleep(PAUSE).await;
    }
}

/// Listens on the first address of `host` that works, on the port that `option` has.
async fn listen(host: &str, option: &'static str, port: u16) -> Result<TcpListener> {
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
                return Err(invalid(option, port.to_string(), problem));
            }
            Err(error) => invalid_host(format!("cannot listen on {address}: {error}")),
        };
    }
    Err(refused)
}

fn serve_error(error: std::io::Error) -> Error {
    Error::Serve { source: error.into() }
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
