//! `GET /v1/models`: the model, and its ids at each chain count.

use axum::extract::{Path, State};
use axum::Json;
use serde::Serialize;

use super::chains::DEFAULT;
use super::error::Refusal;
use super::Served;
use crate::host::chain_choice::model_id_at;

/// A model id, as OpenAI's clients know it, and how many chains answer under it.
#[derive(Serialize)]
pub struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    chains: usize,
}

/// All model ids.
#[derive(Serialize)]
pub struct Models {
    object: &'static str,
    data: Vec<Model>,
}

/// `GET /v1/models`.
pub async fn list(State(served): State<Served>) -> Json<Models> {
    Json(Models { object: "list", data: served.models().collect() })
}

/// `GET /v1/models/ID`.
pub async fn retrieve(
    State(served): State<Served>,
    Path(id): Path<String>,
) -> Result<Json<Model>, Refusal> {
    let found = served.models().find(|model| model.id == id);
    found.map(Json).ok_or_else(|| served.unknown_model(&id))
}

impl Served {
    fn models(&self) -> impl Iterator<Item = Model> + '_ {
        let all = [DEFAULT.to_string(), self.name.to_string()].map(|id| (id, self.chains));
        let each = (1..=self.chains).map(|k| (model_id_at(&self.name, k), k));
        all.into_iter().chain(each).map(|(id, chains)| Model {
            id,
            object: "model",
            created: self.created,
            owned_by: "local",
            chains,
        })
    }
}
