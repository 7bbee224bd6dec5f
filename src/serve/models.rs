//! `GET /v1/models`: the model, and its ids at each chain count.

use axum::extract::{Path, State};
use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{ErrorBody, Refusal};
use super::model_choice::DEFAULT;
use super::Served;
use crate::model_id_at;

/// A model id, as OpenAI's clients know it, and how many chains answer under it.
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

/// All model ids.
#[derive(Serialize, ToSchema)]
pub struct Models {
    object: &'static str,
    data: Vec<Model>,
}

/// The model ids.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, body = Models)))]
pub async fn list(State(served): State<Served>) -> Json<Models> {
    Json(Models { object: "list", data: served.models().collect() })
}

/// A model id.
#[utoipa::path(
    get,
    path = "/v1/models/{*id}",
    params(("id" = String, Path, description = "A model id, which may have a slash")),
    responses((status = 200, body = Model), (status = 404, body = ErrorBody)),
)]
pub async fn retrieve(
    State(served): State<Served>,
    Path(id): Path<String>,
) -> Result<Json<Model>, Refusal> {
    let found = served.models().find(|model| model.id == id);
    found.map(Json).ok_or_else(|| served.unknown_model(&id))
}

impl Served {
    pub fn models(&self) -> impl Iterator<Item = Model> + '_ {
        let all = [DEFAULT.to_string(), self.name.to_string()].map(|id| (id, self.loaded));
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
