//! All routes of the server, and their description. There are no others.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::{OpenApi as Document, RefOr, Schema};
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use super::elastic::Load;
use super::error::Refusal;
use super::guard::guard;
use super::limits::most_body_bytes;
use super::{chat, completions, models, responses, ServeOptions, Served};
use crate::{Engine, Error, Result};

/// The description of the API, without its routes.
#[derive(OpenApi)]
#[openapi(info(
    title = "colm",
    description = "The OpenAI API of a model whose first k chains are models of their own: the model id \
                   NAME@k or the field \"chains\" chooses k."
))]
struct Api;

/// The routes, with Swagger's pages at `/docs`.
///
/// Errors have the body that OpenAI's clients know: `{"error": {"message", "type", "param", "code"}}`.
///
/// # Errors
/// If `options` ask for more chains than are loaded, or name an origin that is none.
pub fn router(engine: &Engine, options: ServeOptions) -> Result<Router> {
    let ServeOptions { elastic, guard: guarded } = options;
    elastic.check(engine.loaded_chains()).map_err(|error| Error::InvalidOption {
        option: "elastic",
        value: elastic.to_string(),
        problem: error.to_string(),
    })?;
    let served = Served {
        engine: engine.clone(),
        name: engine.name().into(),
        loaded: engine.loaded_chains(),
        created: engine.host().get_creation_time(),
        load: Load::new(elastic),
        most_body_bytes: most_body_bytes(engine.max_tokens()),
    };
    let (router, mut document) = OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(chat::create))
        .routes(routes!(completions::create))
        .routes(routes!(responses::create))
        .routes(routes!(models::list))
        .routes(routes!(models::retrieve))
        .routes(routes!(health))
        .split_for_parts();
    name_paths(&mut document);
    name_models(&mut document, &served)?;
    let cors = guarded.cors()?;
    Ok(router
        .with_state(served)
        .merge(SwaggerUi::new("/docs").url("/api-doc/openapi.json", document))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(cors)
        .layer(from_fn_with_state(guarded, guard)))
}

/// Model ids may have slashes: the router says so in the name of the path, which a document cannot.
fn name_paths(document: &mut Document) {
    let paths = std::mem::take(&mut document.paths.paths);
    let named = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item));
    document.paths.paths = named.collect();
}

/// The model ids and the range of the field `chains`, which the model decides.
fn name_models(document: &mut Document, served: &Served) -> Result<()> {
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
    chains.maximum = Some(served.loaded.get().into());
    let ids = served.models().map(|model| Value::from(model.id()));
    model.enum_values = Some(ids.chain([Value::Null]).collect());
    fields.properties.insert("chains".into(), chains.into());
    fields.properties.insert("model".into(), model.into());
    Ok(())
}

/// That the server answers.
#[derive(Serialize, ToSchema)]
struct Health {
    /// ok
    status: &'static str,
}

/// Whether the engine takes requests.
#[utoipa::path(
    get,
    path = "/health",
    responses((status = 200, body = Health), (status = 503, description = "It does not")),
)]
async fn health(State(served): State<Served>) -> Result<Json<Health>, Refusal> {
    match served.engine.host().get_sender(None) {
        Ok(sender) if !sender.is_closed() => Ok(Json(Health { status: "ok" })),
        _ => {
            let refusal = Refusal::internal("the engine takes no requests");
            Err(refusal.with_status(StatusCode::SERVICE_UNAVAILABLE))
        }
    }
}

async fn no_route(request: Request) -> Refusal {
    let path: String = request.uri().path().chars().take(200).collect();
    Refusal::new(format!("there is no route {path}; /docs lists them"))
        .with_status(StatusCode::NOT_FOUND)
}

async fn no_method(request: Request) -> Refusal {
    let path: String = request.uri().path().chars().take(200).collect();
    let method: String = request.method().as_str().chars().take(20).collect();
    Refusal::new(format!("{path} does not take {method}; /docs lists what it takes"))
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    Refusal::internal("the server has failed in this request").into_response()
}
