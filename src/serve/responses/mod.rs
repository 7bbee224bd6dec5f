//! `POST /v1/responses`, without state: nothing of a request or an answer is kept.

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
use futures::{stream, Stream, StreamExt};

use super::chat::parts::PartStream;
use super::error::{ApiError, ErrorResponses};
use super::fields::Fields;
use super::logprobs::TokenLogprob;
use super::sse::{self, ServerEvent};
use super::Served;
use crate::host::vocabulary::Vocabulary;
use crate::Error;
use answer::ResponseBody;
use body::ResponseRequest;
use events::ResponseEvent;
use progress::Progress;
use request::ResponsesRequest;

/// Answers a text or a conversation.
#[utoipa::path(
    post,
    path = "/v1/responses",
    request_body = ResponseRequest,
    responses(
        (
            status = 200,
            description = "The answer; with \"stream\": true, server-sent events that tell of it",
            content((ResponseBody = "application/json"), (ResponseEvent = "text/event-stream")),
        ),
        ErrorResponses,
    ),
)]
pub async fn create(
    State(served): State<Served>,
    mut fields: Fields,
) -> Result<Response, ApiError> {
    let chosen = served.choose(&mut fields)?;
    let asked = ResponsesRequest::from_fields(
        &mut fields,
        chosen.chains,
        served.engine.sampling_defaults(),
    )?;
    fields.finish()?;
    let answer = served.engine.stream(asked.request).await?;
    let body = ResponseBody::begin(chosen.id.clone(), asked.echoed, asked.shown_tools);
    let answering = Answering {
        parts: PartStream::new(answer, &asked.tools),
        progress: Progress::begin(body),
        vocabulary: served.engine.vocabulary().clone(),
    };
    if !asked.stream {
        return Ok(Json(answering.whole().await?).into_response());
    }
    let events = answering.events().map(|event| Ok(ServerEvent::json(&event)?.named(event.kind)));
    Ok(sse::respond(events.inspect(move |_| {
        // The request is in progress until its stream is dropped.
        let _ = &chosen;
    })))
}

/// An answer that the engine is giving.
struct Answering {
    parts: PartStream,
    progress: Progress,
    vocabulary: Arc<Vocabulary>,
}

impl Answering {
    /// The events since the last ones; None after the end.
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

    /// The whole answer.
    async fn whole(mut self) -> Result<ResponseBody, Error> {
        while self.next().await?.is_some() {}
        Ok(self.progress.whole())
    }

    /// The answer event by event. An error is the last of them.
    fn events(mut self) -> impl Stream<Item = ResponseEvent> + Send {
        let first = self.progress.events();
        let others = stream::unfold(Some(self), |answering| async move {
            let mut answering = answering?;
            match answering.next().await {
                Ok(events) => Some((events?, Some(answering))),
                Err(error) => {
                    answering.progress.fail(error.into());
                    Some((answering.progress.events(), None))
                }
            }
        });
        stream::iter([first]).chain(others).flat_map(stream::iter)
    }
}
