//! The host's description of its API, which Swagger's pages show, with the field `chains`.

use axum::extract::State;
use axum::Json;
use mistralrs_server_core::openapi_doc::get_openapi_doc;
use serde_json::{json, Value};

use super::error::Refusal;
use super::Served;

/// `GET /api-doc/openapi.json`.
pub async fn document(State(served): State<Served>) -> Result<Json<Value>, Refusal> {
    let mut document = serde_json::to_value(get_openapi_doc(None)).map_err(Refusal::internal)?;
    for request in ["ChatCompletionRequest", "CompletionRequest", "ResponsesCreateRequest"] {
        let properties = format!("/components/schemas/{request}/properties");
        let Some(Value::Object(properties)) = document.pointer_mut(&properties) else {
            return Err(Refusal::internal(format!("the host does not describe {request}")));
        };
        properties.insert("chains".into(), chains(served.chains));
    }
    Ok(Json(document))
}

/// The schema of the field `chains`.
fn chains(loaded: usize) -> Value {
    json!({
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": loaded,
        "description": "How many chains answer: few are fast, all are good. If absent, all, or what the \
                        server chooses by its load.",
        "example": loaded,
    })
}
