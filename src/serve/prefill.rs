//! `POST /v1/prefill`: computes a prompt and puts its KV blocks into the store.

use axum::extract::State;
use axum::Json;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answers::unix_time;
use super::chat::{Chat, ChatCompletionRequest};
use super::completions::{CompletionRequest, Completions};
use super::error::{ApiError, ErrorResponses};
use super::fields::Fields;
use super::usage::UsageBody;
use super::AppState;
use crate::Request;

/// The body of a chat or of a completion, for the OpenAPI document.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the body")]
pub enum PrefillRequest {
    Chat(ChatCompletionRequest),
    Completion(CompletionRequest),
}

/// Prompts whose KV blocks are stored.
#[derive(Serialize, ToSchema)]
pub struct Prefill {
    /// `prefill`.
    object: &'static str,
    created: u64,
    model: String,
    /// Tokens of the prompts that are in the KV store: those of full blocks.
    stored_tokens: usize,
    usage: UsageBody,
}

/// Compute the prompt of a chat or of a completion, and put its KV blocks into the store. The answer is not computed.
#[utoipa::path(
    post,
    path = "/v1/prefill",
    request_body = PrefillRequest,
    responses((status = 200, description = "The blocks are stored", body = Prefill), ErrorResponses),
)]
pub async fn create(
    State(state): State<AppState>,
    mut fields: Fields,
) -> Result<Json<Prefill>, ApiError> {
    let chosen = state.choose(&mut fields)?;
    let engine = &state.engine;
    let (limits, defaults) = (&state.limits, engine.sampling_defaults());
    let (requests, source_fields) = if fields.json("messages").is_some() {
        let parsed = Chat::from_fields(&mut fields, chosen.chains, limits, defaults)?;
        (vec![parsed.request], parsed.source_fields)
    } else {
        let parsed = Completions::from_fields(&mut fields, chosen.chains, limits, defaults)?;
        (parsed.requests, parsed.source_fields)
    };
    fields.finish()?;
    chosen.active.admit(requests.len(), source_fields.prompt)?;
    let prefill = |(index, request): (usize, Request)| {
        let chosen = &chosen;
        let state = &state;
        async move {
            let request = Request { logprobs: None, prompt_logprobs: None, ..request };
            let prepared = state.prepare(request.max_tokens(0), source_fields).await?;
            state.engine.refresh_stored(prepared.prompt(), chosen.chains).await;
            let answers = state.start_answers(chosen, &prepared, 1).await?;
            let mut usages = Vec::new();
            for mut answer in answers {
                usages.push((index, answer.answer().await?.usage));
            }
            let stored = state.engine.stored_tokens(prepared.prompt(), chosen.chains).await;
            Ok::<_, ApiError>((usages, stored))
        }
    };
    let done = try_join_all(requests.into_iter().enumerate().map(prefill)).await?;
    let mut usage = UsageBody::default();
    let mut stored_tokens = 0;
    for (usages, stored) in done {
        usages.into_iter().for_each(|(index, answer)| usage.add(index, answer));
        stored_tokens += stored;
    }
    Ok(Json(Prefill {
        object: "prefill",
        created: unix_time(),
        model: chosen.id.clone(),
        stored_tokens,
        usage,
    }))
}
