//! `POST /v1/responses`, stateless: requests and answers are not stored.

mod answer;
mod body;
mod events;
mod input;
mod nested;
mod progress;
mod request;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::Json;
use futures::{stream, Stream, StreamExt, TryStreamExt};

use super::chat::parts::PartStream;
use super::error::{ApiError, ErrorResponses};
use super::fields::Fields;
use super::logprobs::TokenLogprob;
use super::sse;
use super::AppState;
use crate::host::vocabulary::Vocabulary;
use crate::Error;
use answer::ResponseBody;
use body::ResponseRequest;
use events::{error_event, ResponseEvent};
use progress::Progress;
use request::ResponsesRequest;

/// Answer a text or a conversation.
#[utoipa::path(
    post,
    path = "/v1/responses",
    request_body = ResponseRequest,
    responses(
        (
            status = 200,
            description = "The answer, or, with \"stream\": true, its events as server-sent events",
            content((ResponseBody = "application/json"), (ResponseEvent = "text/event-stream")),
        ),
        ErrorResponses,
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let chosen = state.choose(&mut fields)?;
    let parsed = ResponsesRequest::from_fields(
        &mut fields,
        chosen.chains,
        state.engine.sampling_defaults(),
    )?;
    fields.finish()?;
    let source_fields = parsed.source_fields;
    let prepared = state.prepare(parsed.request, source_fields).await?;
    let mut answers = state.start_answers(&chosen, &prepared, 1).await?;
    let answer = answers.remove(0);
    let body = ResponseBody::begin(chosen.id.clone(), parsed.echoed, parsed.echoed_tools);
    let running = RunningAnswer {
        parts: PartStream::new(answer, &parsed.tools),
        progress: Progress::begin(body),
        vocabulary: state.engine.vocabulary().clone(),
    };
    if !parsed.stream {
        let answer = running.complete().await;
        return Ok(Json(answer.map_err(|error| source_fields.name_in(error))?).into_response());
    }
    let events = running
        .events()
        .map(move |event| event.map_err(|error| source_fields.name_in(error))?.server_event());
    let events = events.inspect(move |_| {
        // The request is active until its stream is dropped.
        let _ = &chosen;
    });
    Ok(sse::respond(events, error_event))
}

/// An answer in progress.
struct RunningAnswer {
    parts: PartStream,
    progress: Progress,
    vocabulary: Arc<Vocabulary>,
}

impl RunningAnswer {
    /// The next events. None after the end.
    async fn next(&mut self) -> Result<Option<Vec<ResponseEvent>>, Error> {
        let Some(new) = self.parts.next().await? else { return Ok(None) };
        let tokens = new.tokens.iter();
        let logprobs = tokens.filter_map(|token| TokenLogprob::from_token(token, &self.vocabulary));
        self.progress.add(new.parts, logprobs.collect());
        if let Some((reason, usage)) = new.end {
            self.progress.end(reason, usage);
        }
        Ok(Some(self.progress.events()))
    }

    /// Waits for the complete answer.
    async fn complete(mut self) -> Result<ResponseBody, Error> {
        while self.next().await?.is_some() {}
        Ok(self.progress.into_body())
    }

    /// The events of the answer, or an error after which there are none.
    fn events(mut self) -> impl Stream<Item = Result<ResponseEvent, Error>> + Send {
        let first = self.progress.events();
        let later = stream::unfold(self, |mut running| async move {
            let events = running.next().await.transpose()?;
            Some((events, running))
        });
        let events = stream::iter([Ok(first)]).chain(later);
        events.map_ok(|events| stream::iter(events).map(Ok)).try_flatten()
    }
}
