//! `POST /v1/completions`.

mod answer;
mod logprobs;
mod request;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::Json;
use futures::future::try_join_all;
use futures::{stream, StreamExt};

use super::answers::{new_id, system_fingerprint, unix_time, SourceFields};
use super::error::{ApiError, ErrorResponses};
use super::fields::Fields;
use super::limits::check_echo;
use super::model_choice::ModelChoice;
use super::sse;
use super::usage::UsageBody;
use super::AppState;
use crate::host::prepared::Prepared;
use crate::host::vocabulary::Vocabulary;
use crate::{Prompt, Request, Usage};
use answer::{ChoiceStream, Completion, CompletionChoice, Echo};
pub use request::{CompletionRequest, Completions};

/// Complete one or more prompts.
#[utoipa::path(
    post,
    path = "/v1/completions",
    request_body = CompletionRequest,
    responses(
        (
            status = 200,
            description = "The answer, or, with \"stream\": true, its pieces as server-sent events",
            content((Completion = "application/json"), (Completion = "text/event-stream")),
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
    let completions =
        Completions::from_fields(&mut fields, chosen.chains, &state.limits, defaults)?;
    fields.finish()?;
    let completion = Completion {
        id: new_id("cmpl"),
        object: "text_completion",
        created: unix_time(),
        model: chosen.id.clone(),
        system_fingerprint: system_fingerprint(),
        choices: Vec::new(),
        usage: None,
    };
    let (stream, include_usage) = (completions.stream, completions.include_usage);
    let source_fields = completions.source_fields;
    let started = start(&state, &chosen, completions).await?;
    let vocabulary = state.engine.vocabulary();
    if !stream {
        let (choices, usage) = complete_answers(started, source_fields, vocabulary).await?;
        let usage = Some(usage);
        return Ok(Json(Completion { choices, usage, ..completion }).into_response());
    }
    let pieces = started.into_iter().enumerate().flat_map(|(prompt, started)| {
        let pieces = started.answers.into_iter();
        pieces.map(move |answer| (prompt, answer.pieces(vocabulary.clone())))
    });
    let pieces = pieces.map(|(prompt, pieces)| {
        let with_usage = move |piece: CompletionChoice| {
            let usage = piece.usage.map(|usage| (prompt, usage));
            (piece, usage)
        };
        let name_error = move |error| source_fields.name_in(error);
        pieces.map(move |piece| piece.map(with_usage).map_err(name_error)).boxed()
    });
    let chunk = move |piece: Option<CompletionChoice>, usage| Completion {
        choices: piece.into_iter().collect(),
        usage,
        ..completion.clone()
    };
    let chunks = sse::chunks(stream::select_all(pieces), include_usage, chunk);
    let events = chunks.inspect(move |_| {
        // The request is active until its stream is dropped.
        let _ = &chosen;
    });
    Ok(sse::respond(events, sse::error_event))
}

/// The answers to one prompt.
struct Started {
    answers: Vec<ChoiceStream>,
    /// How many of them, the best ones, are returned.
    n: usize,
}

/// Starts the answers to every prompt.
async fn start(
    state: &AppState,
    chosen: &ModelChoice,
    completions: Completions,
) -> Result<Vec<Started>, ApiError> {
    let Completions { requests, source_fields, n, best_of, echo, logprobs, .. } = completions;
    chosen.active.admit(requests.len() * best_of, source_fields.choices)?;
    let (vocabulary, context) = (state.engine.vocabulary(), state.engine.max_tokens());
    let top = requests.first().and_then(|request| request.prompt_logprobs);
    let prepare = |request: Request| async move {
        let text = match &request.prompt {
            Prompt::Text(text) if echo => Some(text.clone()),
            _ => None,
        };
        Ok::<_, ApiError>((state.prepare(request, source_fields).await?, text))
    };
    let prepared = try_join_all(requests.into_iter().map(prepare)).await?;
    if echo {
        let tokens = prepared.iter().map(|(prepared, _)| prepared.prompt().len()).sum();
        check_echo(best_of, tokens, top.unwrap_or(0), context)?;
    }
    let prompt = |(prompt, (prepared, text)): (usize, (Prepared, Option<String>))| async move {
        let echoed = echo.then(|| Arc::new(Echo::new(prepared.prompt(), text, vocabulary)));
        let answers = state.start_answers(chosen, &prepared, best_of).await?;
        let answers = answers.into_iter().enumerate().map(|(index, answer)| {
            ChoiceStream::new(prompt * n + index, answer, echoed.clone(), logprobs)
        });
        Ok::<_, ApiError>(Started { answers: answers.collect(), n })
    };
    try_join_all(prepared.into_iter().enumerate().map(prompt)).await
}

/// Waits for the complete answers. Also returns the usage.
async fn complete_answers(
    started: Vec<Started>,
    source_fields: SourceFields,
    vocabulary: &Vocabulary,
) -> Result<(Vec<CompletionChoice>, UsageBody), ApiError> {
    let prompts =
        started.into_iter().enumerate().map(|(prompt, Started { answers, n })| async move {
            let answers = answers.into_iter().map(|answer| answer.complete(vocabulary));
            let answers = try_join_all(answers).await;
            let mut answers = answers.map_err(|error| source_fields.name_in(error))?;
            let usages: Vec<Usage> =
                answers.iter().filter_map(|(choice, _)| choice.usage).collect();
            if answers.len() > n {
                answers.sort_by(|(_, one), (_, other)| other.total_cmp(one));
                answers.truncate(n);
            }
            let choices = answers.into_iter().enumerate().map(|(index, (choice, _))| {
                CompletionChoice { index: prompt * n + index, ..choice }
            });
            Ok::<_, ApiError>((choices.collect::<Vec<_>>(), usages))
        });
    let mut total = UsageBody::default();
    let mut choices = Vec::new();
    for (prompt, (answers, usages)) in try_join_all(prompts).await?.into_iter().enumerate() {
        choices.extend(answers);
        usages.into_iter().for_each(|usage| total.add(prompt, usage));
    }
    Ok((choices, total))
}
