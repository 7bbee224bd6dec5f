//! The routes of the server, and the OpenAPI document that describes them.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
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

use super::elastic::ActiveRequests;
use super::error::ApiError;
use super::guard::guard;
use super::limits::max_body_bytes;
use super::{chat, completions, models, responses, AppState, ServeOptions};
use crate::{Engine, Error, Result};

/// The OpenAPI document, without the routes.
#[derive(OpenApi)]
#[openapi(info(
    title = "colm",
    description = "The OpenAI API for a Chain-of-Language-Models checkpoint. A request chooses its chain \
                   count k by the model id NAME@k or by the field \"chains\"."
))]
struct Api;

/// The routes of the server, with Swagger UI at `/docs`.
///
/// Errors have OpenAI's format: `{"error": {"message", "type", "param", "code"}}`.
///
/// # Errors
/// If `options` ask for more chains than are loaded, or contain an invalid origin.
pub fn router(engine: &Engine, options: ServeOptions) -> Result<Router> {
    let ServeOptions { elastic, guard: guarded } = options;
    elastic.check(engine.loaded_chains()).map_err(|error| Error::InvalidOption {
        option: "elastic",
        value: elastic.to_string(),
        problem: error.to_string(),
    })?;
    let state = AppState {
        engine: engine.clone(),
        name: engine.name().into(),
        loaded: engine.loaded_chains(),
        created: engine.created(),
        load: ActiveRequests::new(elastic),
        max_body_bytes: max_body_bytes(engine.max_tokens()),
    };
    let (router, mut document) = OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(chat::create))
        .routes(routes!(completions::create))
        .routes(routes!(responses::create))
        .routes(routes!(models::list))
        .routes(routes!(models::retrieve))
        .routes(routes!(health))
        .split_for_parts();
    strip_wildcards(&mut document);
    add_model_ids(&mut document, &state)?;
    let cors = guarded.cors()?;
    Ok(router
        .with_state(state)
        .merge(SwaggerUi::new("/docs").url("/api-doc/openapi.json", document))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(cors)
        .layer(from_fn_with_state(guarded, guard)))
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
