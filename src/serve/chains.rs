//! Which chain count a request asks for: as the model id `NAME@k`, as the field `"chains": k`, or
//! neither, which leaves it to the server. The host is told by the model id `NAME@k` alone.

use axum::body::{to_bytes, Body};
use axum::extract::{Request, State};
use axum::http::{header, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use indexmap::IndexMap;
use mistralrs_server_core::mistralrs_server_router_builder::DEFAULT_MAX_BODY_LIMIT;
use serde_json::value::{to_raw_value, RawValue};

use super::error::Refusal;
use super::refuse::refuse;
use super::{answer, Served};
use crate::host::chain_choice::{model_id_at, parse_chains};

/// A JSON object whose values stay as they were written.
pub type Fields = IndexMap<String, Box<RawValue>>;

/// Middleware: passes the request on with its chain count in the model id, and the answer back with
/// that id as its model.
pub async fn choose(
    State(served): State<Served>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, DEFAULT_MAX_BODY_LIMIT).await.map_err(unreadable)?;
    let mut fields: Fields = serde_json::from_slice(&body)
        .map_err(|error| Refusal::new(format!("the body is not a JSON object: {error}")))?;
    let asked = served.asked_chains(&fields)?;
    refuse(&fields)?;
    let in_progress = served.load.enter();
    let k = asked.unwrap_or_else(|| served.load.chains(&in_progress, served.chains));
    let id = model_id_at(&served.name, k);
    fields.shift_remove("chains");
    fields.insert("model".into(), to_raw_value(&id).map_err(Refusal::internal)?);
    let body = serde_json::to_vec(&fields).map_err(Refusal::internal)?;
    parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let response = answer::report_model(response, &id).await?;
    Ok(answer::hold(response, in_progress))
}

impl Served {
    /// The chain count that the body `fields` of a request asks for, from 1 to all loaded; None if it leaves
    /// it open.
    fn asked_chains(&self, fields: &Fields) -> Result<Option<usize>, Refusal> {
        let of_model = match given(fields, "model") {
            Some(model) => self.chains_of_model(model)?,
            None => None,
        };
        let of_field = match given(fields, "chains") {
            Some(chains) => Some(parse_chains(chains.get(), self.chains).map_err(|refused| {
                Refusal::new(refused.to_string()).of("chains").coded("invalid_value")
            })?),
            None => None,
        };
        match (of_model, of_field) {
            (Some(model), Some(field)) if model != field => Err(Refusal::new(format!(
                "the model id asks for {model} chains but the field \"chains\" for {field}: \
                 give one of them, or the same from 1 to {}",
                self.chains
            ))
            .of("chains")
            .coded("invalid_value")),
            (of_model, of_field) => Ok(of_field.or(of_model)),
        }
    }

    /// k of `NAME@k`; None for an id that leaves it open.
    fn chains_of_model(&self, model: &RawValue) -> Result<Option<usize>, Refusal> {
        let id: String = serde_json::from_str(model.get()).map_err(|_| {
            Refusal::new(format!("model must be a string, not {model}"))
                .of("model")
                .coded("invalid_type")
        })?;
        if id == DEFAULT || *id == *self.name {
            return Ok(None);
        }
        let chains = id.strip_prefix(&*self.name).and_then(|rest| rest.strip_prefix('@'));
        let chains = chains.ok_or_else(|| self.unknown_model(&id))?;
        match parse_chains(chains, self.chains) {
            Ok(k) => Ok(Some(k)),
            Err(refused) => {
                Err(Refusal::not_found(format!("the model {id} does not exist: {refused}")))
            }
        }
    }

    /// Why the model id `id` is refused.
    pub fn unknown_model(&self, id: &str) -> Refusal {
        let Self { name, chains, .. } = self;
        Refusal::not_found(format!(
            "the model {id} does not exist: {name} is served, or {name}@k with k from 1 to {chains}"
        ))
    }
}

/// The model id that stands for whichever model is served, as the host has it.
pub const DEFAULT: &str = "default";

/// The value of a field; None where it is absent or null.
pub fn given<'a>(fields: &'a Fields, name: &str) -> Option<&'a RawValue> {
    fields.get(name).map(|value| &**value).filter(|value| value.get() != "null")
}

/// Why a body could not be read.
fn unreadable(error: axum::Error) -> Refusal {
    let error = error.into_inner();
    if error.is::<http_body_util::LengthLimitError>() {
        let limit = DEFAULT_MAX_BODY_LIMIT / (1024 * 1024);
        return Refusal::new(format!("the body is longer than {limit} MiB"))
            .with_status(StatusCode::PAYLOAD_TOO_LARGE);
    }
    Refusal::new(format!("cannot read the body: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::elastic::{Elastic, Load};
    use super::*;

    fn asked(body: &str) -> Result<Option<usize>, Refusal> {
        let load = Load::new(Elastic::default());
        let served = Served { name: "org/tiny@home".into(), chains: 4, created: 0, load };
        served.asked_chains(&serde_json::from_str(body).unwrap())
    }

    #[test]
    fn a_chain_count_comes_from_the_model_id_or_the_field() {
        let bodies = [
            (r#"{}"#, None),
            (r#"{"model": "default"}"#, None),
            (r#"{"model": "org/tiny@home"}"#, None),
            (r#"{"model": "org/tiny@home@3"}"#, Some(3)),
            (r#"{"model": "org/tiny@home", "chains": 2}"#, Some(2)),
            (r#"{"model": "org/tiny@home@2", "chains": 2}"#, Some(2)),
            (r#"{"model": "org/tiny@home@1", "chains": null}"#, Some(1)),
            (r#"{"chains":  1 }"#, Some(1)),
        ];
        for (body, k) in bodies {
            assert_eq!(asked(body).unwrap(), k, "{body}");
        }
    }

    #[test]
    fn what_is_not_a_chain_count_is_a_bad_request_that_names_the_range() {
        for chains in ["0", "5", "-1", "2.5", "2.0", "1e0", "\"2\"", "true", "[2]", "{}"] {
            let refusal = asked(&format!(r#"{{"chains": {chains}}}"#)).unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{chains}");
            assert!(refusal.message.contains("from 1 to 4"), "{}", refusal.message);
            assert!(refusal.message.contains(chains), "{}", refusal.message);
        }
        let refusal = asked(r#"{"model": "org/tiny@home@1", "chains": 2}"#).unwrap_err();
        assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_model_that_is_not_served_is_not_found() {
        for id in
            ["gpt-4", "", "org/tiny", "org/tiny@home@", "org/tiny@home@9", "org/tiny@home@two"]
        {
            let refusal = asked(&format!(r#"{{"model": "{id}"}}"#)).unwrap_err();
            assert_eq!(refusal.status, StatusCode::NOT_FOUND, "{id}");
            assert!(refusal.message.contains("from 1 to 4"), "{}", refusal.message);
        }
    }
}
