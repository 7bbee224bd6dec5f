//! `POST /v1/chat/completions`.

mod answer;
mod body;
mod messages;
pub mod parts;
mod request;
pub mod template_variables;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::Json;
use futures::future::try_join_all;
use futures::{stream, StreamExt};

use super::answers::{new_id, system_fingerprint, unix_time, SourceFields};
use super::error::{ApiError, ErrorResponses};
use super::fields::Fields;
use super::model_choice::ModelChoice;
use super::sse;
use super::usage::UsageBody;
use super::AppState;
use answer::{ChatCompletion, ChatCompletionChunk, ChoiceStream, ChunkChoice};
pub use body::ChatCompletionRequest;
pub use request::Chat;

/// Answer a conversation.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    request_body = ChatCompletionRequest,
    responses(
        (
            status = 200,
            description = "The answer, or, with \"stream\": true, its pieces as server-sent events",
            content((ChatCompletion = "application/json"), (ChatCompletionChunk = "text/event-stream")),
        ),
        ErrorResponses,
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let chosen = state.choose(&mut fields)?;
    let engine = &state.engine;
    let defaults = engine.sampling_defaults();
    let chat = Chat::from_fields(&mut fields, chosen.chains, &state.limits, defaults)?;
    fields.finish()?;
    let with_logprobs = chat.request.logprobs.is_some();
    chosen.active.admit(chat.choices, chat.source_fields.choices)?;
    let source_fields = chat.source_fields;
    let prepared = state.prepare(chat.request, source_fields).await?;
    let answers = state.start_answers(&chosen, &prepared, chat.choices).await?;
    let answers = answers.into_iter().enumerate();
    let choices: Vec<ChoiceStream> = answers
        .map(|(index, answer)| ChoiceStream::new(index, answer, &chat.tools, with_logprobs))
        .collect();
    if chat.stream {
        return Ok(streaming_response(&state, choices, chosen, source_fields, chat.include_usage));
    }
    complete_response(&state, choices, chosen, source_fields).await
}

async fn complete_response(
    state: &AppState,
    choices: Vec<ChoiceStream>,
    chosen: ModelChoice,
    source_fields: SourceFields,
) -> Result<Response, ApiError> {
    let vocabulary = state.engine.vocabulary();
    let choices = try_join_all(choices.into_iter().map(|choice| choice.complete(vocabulary))).await;
    let choices = choices.map_err(|error| source_fields.name_in(error))?;
    let (choices, usages): (Vec<_>, Vec<_>) = choices.into_iter().unzip();
    let mut usage = UsageBody::default();
    usages.into_iter().for_each(|answer| usage.add(0, answer));
    let completion = ChatCompletion {
        id: new_id("chatcmpl"),
        object: "chat.completion",
        created: unix_time(),
        model: chosen.id,
        system_fingerprint: system_fingerprint(),
        choices,
        usage,
    };
    Ok(Json(completion).into_response())
}

fn streaming_response(
    state: &AppState,
    choices: Vec<ChoiceStream>,
    chosen: ModelChoice,
    source_fields: SourceFields,
    include_usage: bool,
) -> Response {
    let vocabulary = state.engine.vocabulary();
    let with_usage = |piece: ChunkChoice| {
        let usage = piece.usage.map(|usage| (0, usage));
        (piece, usage)
    };
    let pieces = choices.into_iter().map(|choice| {
        let pieces = choice.pieces(vocabulary.clone());
        let name_error = move |error| source_fields.name_in(error);
        pieces.map(move |piece| piece.map(with_usage).map_err(name_error)).boxed()
    });
    let chunk = ChatCompletionChunk {
        id: new_id("chatcmpl"),
        object: "chat.completion.chunk",
        created: unix_time(),
        model: chosen.id.clone(),
        system_fingerprint: system_fingerprint(),
        choices: Vec::new(),
        usage: None,
    };
    let chunk = move |piece: Option<ChunkChoice>, usage| ChatCompletionChunk {
        choices: piece.into_iter().collect(),
        usage,
        ..chunk.clone()
    };
    let chunks = sse::chunks(stream::select_all(pieces), include_usage, chunk);
    let events = chunks.inspect(move |_| {
        // The request is active until its stream is dropped.
        let _ = &chosen;
    });
    sse::respond(events, sse::error_event)
}
