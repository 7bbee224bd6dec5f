//! The OpenAI API over HTTP: the host's routes, with a chain count per request.
//!
//! `POST /v1/chat/completions`, `/v1/completions` and `/v1/responses` take the model id `NAME@k` or
//! a field `"chains": k`; what names neither gets all loaded chains, or what [`Elastic`] says at the
//! load of the moment. Everything else about a request is the host's.

mod answer;
mod chains;
mod elastic;
mod error;
mod models;
mod openapi;
mod refuse;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::http::{header, Method};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post_service};
use axum::Router;
use mistralrs_server_core::mistralrs_server_router_builder::MistralRsServerRouterBuilder;
use tokio::net::TcpListener;
use tower_http::cors::{Any, CorsLayer};

use crate::Engine;

use elastic::Load;
pub use elastic::{Elastic, ElasticRefused};

/// The model that is served.
#[derive(Clone, Debug)]
struct Served {
    /// NAME, its id at all loaded chains.
    name: Arc<str>,
    /// The number of chains loaded: `NAME@1` to `NAME@chains` are its ids at k chains.
    chains: usize,
    /// When it was loaded, in seconds since 1970.
    created: u64,
    /// The requests in progress.
    load: Load,
}

/// The routes of the OpenAI API, with Swagger's pages at `/docs`.
///
/// Errors, the host's too, have the body that OpenAI's clients know:
/// `{"error": {"message", "type", "param", "code"}}`.
///
/// Fails if `elastic` asks for more chains than are loaded.
pub async fn router(engine: &Engine, elastic: Elastic) -> Result<Router> {
    elastic.check(engine.chains())?;
    let served = Served {
        name: engine.name().into(),
        chains: engine.chains(),
        created: engine.host().get_creation_time(),
        load: Load::new(elastic),
    };
    let host = MistralRsServerRouterBuilder::new().with_mistralrs(engine.host().clone());
    let host = host.build().await?;
    let with_chains = host.clone().layer(from_fn_with_state(served.clone(), chains::choose));
    // What answers before the host does needs its cross-origin headers, too.
    let cross_origin = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION]);
    Ok(Router::new()
        .route("/v1/chat/completions", post_service(with_chains.clone()))
        .route("/v1/completions", post_service(with_chains.clone()))
        .route("/v1/responses", post_service(with_chains))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::retrieve).fallback_service(host.clone()))
        .route("/api-doc/openapi.json", get(openapi::document))
        .with_state(served)
        .fallback_service(host)
        .layer(from_fn(error::shape))
        .layer(cross_origin))
}

/// Serves `engine` at `host` and `port` until Ctrl-C, which ends the answers in progress.
///
/// Says on stderr where it listens and which model ids it knows. Port 0 is any free one.
pub async fn serve(engine: Engine, host: IpAddr, port: u16, elastic: Elastic) -> Result<()> {
    let router = router(&engine, elastic).await?;
    let address = SocketAddr::new(host, port);
    let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => anyhow::anyhow!("port {port} of {host} is in use: choose another"),
        _ => anyhow::Error::new(error).context(format!("cannot listen on {address}")),
    })?;
    let address = listener.local_addr().context("cannot tell the address listened on")?;
    let (name, chains) = (engine.name(), engine.chains());
    eprintln!(
        "Serving the OpenAI API at http://{address}/v1, its description at http://{address}/docs"
    );
    eprintln!(
        "Models: {name} (all {chains} chains), {name}@1 to {name}@{chains}; or \"chains\": k"
    );
    axum::serve(listener, router).with_graceful_shutdown(interrupted(engine)).await?;
    Ok(())
}

/// Waits for Ctrl-C, then ends the answers in progress: nobody waits for a long one.
async fn interrupted(engine: Engine) {
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!("Ctrl-C will not end the server tidily: {error}");
        return std::future::pending().await;
    }
    eprintln!("Stopping");
    if let Err(error) = engine.stop_answers().await {
        tracing::warn!("cannot end the answers in progress: {error:#}");
    }
}
