//! The routes of the server, and the OpenAPI document that describes them.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use colm_checkpoint::abbreviate;
use serde::Serialize;
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::{OpenApi as Document, RefOr, Schema};
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use super::admission::Admission;
use super::api_keys::require_key;
use super::error::ApiError;
use super::guard::guard;
use super::interrupt::{self, Interrupt};
use super::limits::RequestLimits;
use super::metrics::Metrics;
use super::request_log::log_request;
use super::{chat, completions, models, prefill, responses, AppState, Role, ServeOptions};
use crate::{Engine, Error, Result};

/// The OpenAPI document, without the routes.
#[derive(OpenApi)]
#[openapi(info(
    title = "colm",
    description = "The OpenAI API for a Chain-of-Language-Models checkpoint. A request chooses its chain \
                   count k by the model id NAME@k or by the field \"chains\"."
))]
struct Api;

/// The server without its listener.
pub(super) struct App {
    pub(super) router: Router,
    pub(super) admission: Admission,
    pub(super) interrupt: Interrupt,
    metrics: Metrics,
}

impl App {
    /// # Errors
    /// As [`router`].
    pub(super) fn new(engine: &Engine, options: ServeOptions) -> Result<Self> {
        let ServeOptions { elastic, role, guard: guarded, limits, api_keys, .. } = options;
        if role == Role::Prefill && engine.kv_store_counts().is_none() {
            return Err(Error::InvalidOption {
                option: "role",
                value: "prefill".into(),
                problem: "the blocks of prompts need a place, expected `kv_store`".into(),
            });
        }
        elastic.check(engine.loaded_chains()).map_err(|error| Error::InvalidOption {
            option: "elastic",
            value: elastic.to_string(),
            problem: error.to_string(),
        })?;
        let admission = Admission::new(elastic, engine.max_seqs(), limits.max_queue);
        let interrupt = Interrupt::new(limits.request_timeout);
        let metrics = Metrics::new(engine)?;
        let state = AppState {
            engine: engine.clone(),
            name: engine.name().into(),
            loaded: engine.loaded_chains(),
            created: engine.created(),
            admission: admission.clone(),
            metrics: metrics.clone(),
            limits: RequestLimits::new(&limits, engine.max_tokens()),
        };
        let router = OpenApiRouter::with_openapi(Api::openapi());
        let router = match role {
            Role::Answer => router
                .routes(routes!(chat::create))
                .routes(routes!(completions::create))
                .routes(routes!(responses::create)),
            Role::Prefill => router.routes(routes!(prefill::create)),
        };
        let (router, mut document) = router
            .routes(routes!(models::list))
            .routes(routes!(models::retrieve))
            .routes(routes!(health))
            .routes(routes!(ready))
            .routes(routes!(show_metrics))
            .split_for_parts();
        strip_wildcards(&mut document);
        add_model_ids(&mut document, &state)?;
        let cors = guarded.cors()?;
        let router = router
            .with_state(state)
            .merge(SwaggerUi::new("/docs").url("/api-doc/openapi.json", document))
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .layer(from_fn_with_state(interrupt.clone(), interrupt::interrupt))
            .layer(from_fn_with_state(api_keys, require_key))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(cors)
            .layer(from_fn_with_state(guarded, guard))
            .layer(from_fn_with_state(metrics.clone(), log_request));
        Ok(Self { router, admission, interrupt, metrics })
    }

    /// Waits until no request is in progress.
    pub(super) async fn drained(&self) {
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
        while self.admission.requests() > 0 {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The routes of the server, with Swagger UI at `/docs`.
///
/// Errors have OpenAI's format: `{"error": {"message", "type", "param", "code"}}`.
///
/// # Errors
/// If `options` ask for more chains than are loaded, or contain an invalid origin.
pub fn router(engine: &Engine, options: ServeOptions) -> Result<Router> {
    App::new(engine, options).map(|app| app.router)
}

/// `/metrics` alone, without a key.
pub(super) fn metrics_router(app: &App) -> Router {
    let metrics = app.metrics.clone();
    Router::new().route("/metrics", get(move || async move { metrics.text() }))
}

/// Removes the router's wildcard syntax `{*id}`, which OpenAPI does not have.
fn strip_wildcards(document: &mut Document) {
    let paths = std::mem::take(&mut document.paths.paths);
    let named = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item));
    document.paths.paths = named.collect();
}

/// Adds the model ids and the range of the field `chains`, which depend on the model.
fn add_model_ids(document: &mut Document, state: &AppState) -> Result<()> {
    let schemas = document.components.as_mut().map(|components| &mut components.schemas);
    let fields = schemas.and_then(|schemas| schemas.get_mut("ModelFields"));
    let Some(RefOr::T(Schema::Object(fields))) = fields else {
        return Err(Error::Failed("the API document does not describe ModelFields".into()));
    };
    let mut field = |name: &str| match fields.properties.get_mut(name) {
        Some(RefOr::T(Schema::Object(field))) => Ok(std::mem::take(field)),
        _ => Err(Error::Failed(format!("the API document does not describe {name}"))),
    };
    let (mut chains, mut model) = (field("chains")?, field("model")?);
    chains.maximum = Some(state.loaded.get().into());
    let ids = state.models().map(|model| Value::from(model.id()));
    model.enum_values = Some(ids.chain([Value::Null]).collect());
    fields.properties.insert("chains".into(), chains.into());
    fields.properties.insert("model".into(), model.into());
    Ok(())
}

/// The state of the server.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `ok`.
    status: &'static str,
}

/// Check whether the engine accepts requests.
#[utoipa::path(
    get,
    path = "/health",
    responses(
        (status = 200, body = Health),
        (status = 503, description = "The engine does not accept requests"),
    ),
)]
async fn health(State(state): State<AppState>) -> Result<Json<Health>, ApiError> {
    if state.engine.accepts_requests() {
        return Ok(Json(Health { status: "ok" }));
    }
    let error = ApiError::internal("the engine does not accept requests");
    Err(error.with_status(StatusCode::SERVICE_UNAVAILABLE))
}

/// Check whether the server takes requests: it does until it is told to stop.
#[utoipa::path(
    get,
    path = "/ready",
    responses(
        (status = 200, body = Health),
        (status = 503, description = "The server is stopping, or the engine does not accept requests"),
    ),
)]
async fn ready(State(state): State<AppState>) -> Result<Json<Health>, ApiError> {
    if state.admission.is_draining() {
        return Err(Error::Stopped.into());
    }
    health(State(state)).await
}

/// Counters and durations in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "text/plain")))]
async fn show_metrics(State(state): State<AppState>) -> Response {
    state.metrics.text().into_response()
}

async fn not_found(request: Request) -> ApiError {
    let path = abbreviate(request.uri().path());
    ApiError::new(format!("{path} does not exist: /docs lists the routes"))
        .with_status(StatusCode::NOT_FOUND)
}

async fn method_not_allowed(request: Request) -> ApiError {
    let path = abbreviate(request.uri().path());
    let method = abbreviate(request.method().as_str());
    ApiError::new(format!("{path} does not support {method}: /docs lists the methods"))
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::internal("the server failed to process this request").into_response()
}
