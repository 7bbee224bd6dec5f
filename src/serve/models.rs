//! `GET /v1/models`: the model, and its ids at each chain count.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{ApiError, ErrorBody};
use super::model_choice::DEFAULT_MODEL;
use super::AppState;
use crate::model_id_at;

/// A model id, and the number of chains that answer requests for it.
#[derive(Serialize, ToSchema)]
pub struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    chains: usize,
}

impl Model {
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// The model ids.
#[derive(Serialize, ToSchema)]
pub struct Models {
    object: &'static str,
    data: Vec<Model>,
}

/// List the model ids.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, body = Models)))]
pub async fn list(State(state): State<AppState>) -> Json<Models> {
    Json(Models { object: "list", data: state.models().collect() })
}

/// Get one model id.
#[utoipa::path(
    get,
    path = "/v1/models/{*id}",
    params(("id" = String, Path, description = "A model id. It may contain slashes.")),
    responses((status = 200, body = Model), (status = 404, body = ErrorBody)),
)]
pub async fn retrieve(
    State(state): State<AppState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Model>, ApiError> {
    let Path(id) = id.map_err(|refused| ApiError::model_not_found(refused.to_string()))?;
    let found = state.models().find(|model| model.id == id);
    found.map(Json).ok_or_else(|| state.unknown_model(&id))
}

impl AppState {
    pub fn models(&self) -> impl Iterator<Item = Model> + '_ {
        let all = [DEFAULT_MODEL.to_string(), self.name.to_string()].map(|id| (id, self.loaded));
        let each = self.engine.chain_counts().map(|k| (model_id_at(&self.name, k), k));
        all.into_iter().chain(each).map(|(id, chains)| Model {
            id,
            object: "model",
            created: self.created,
            owned_by: "local",
            chains: chains.get(),
        })
    }
}
