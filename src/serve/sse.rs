//! Server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Bytes;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::future::ready;
use futures::{stream, Stream, StreamExt};
use serde::Serialize;

use super::error::ApiError;
use super::usage::UsageBody;
use crate::Usage;

/// The interval of comments that keep a connection open during a long prefill.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// An event of a stream.
pub struct ServerEvent {
    /// Its name, in streams whose events have names.
    pub name: Option<&'static str>,
    data: String,
}

impl ServerEvent {
    /// An event without a name. Its data is `data` as JSON.
    pub fn json(data: &impl Serialize) -> Result<Self, ApiError> {
        let data = serde_json::to_string(data).map_err(ApiError::internal)?;
        Ok(Self { name: None, data })
    }

    /// Sets the name.
    pub fn named(self, name: &'static str) -> Self {
        Self { name: Some(name), ..self }
    }

    /// The last event of the chat and completions endpoints.
    pub fn done() -> Self {
        Self { name: None, data: "[DONE]".into() }
    }
}

/// Streams `events`. The stream ends after the first error, which is sent as an event, so that clients can tell an
/// interrupted answer from a complete one.
pub fn respond(
    events: impl Stream<Item = Result<ServerEvent, ApiError>> + Send + 'static,
) -> Response {
    let ended = stream::unfold((Box::pin(events), false), |(mut events, failed)| async move {
        if failed {
            return None;
        }
        let (event, failed) = match events.next().await? {
            Ok(event) => (event, false),
            Err(error) => (error_event(error), true),
        };
        Some((Ok::<_, Infallible>(event.into()), (events, failed)))
    });
    Sse::new(ended).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// Turns `pieces` into events, each a chunk made by `chunk`. A chunk with the usage follows if `include_usage`, then
/// `[DONE]`. The last piece of an answer carries the index of its prompt and the usage.
pub fn chunks<P: Send + 'static, C: Serialize>(
    pieces: impl Stream<Item = Result<(P, Option<(usize, Usage)>), ApiError>> + Send + 'static,
    include_usage: bool,
    chunk: impl Fn(Option<P>, Option<UsageBody>) -> C + Send + 'static,
) -> impl Stream<Item = Result<ServerEvent, ApiError>> + Send + 'static {
    let ends = if include_usage { vec![End::Usage, End::Done] } else { vec![End::Done] };
    let events = pieces.map(Item::Piece).chain(stream::iter(ends).map(Item::End));
    events.scan(UsageBody::default(), move |total, event| {
        let event = match event {
            Item::Piece(Ok((piece, usage))) => {
                usage.into_iter().for_each(|(prompt, usage)| total.add(prompt, usage));
                ServerEvent::json(&chunk(Some(piece), None))
            }
            Item::Piece(Err(error)) => Err(error),
            Item::End(End::Usage) => ServerEvent::json(&chunk(None, Some(total.clone()))),
            Item::End(End::Done) => Ok(ServerEvent::done()),
        };
        ready(Some(event))
    })
}

/// A piece of an answer, or an event after the last piece.
enum Item<P> {
    Piece(P),
    End(End),
}

enum End {
    Usage,
    Done,
}

/// The last event of a stream that fails.
fn error_event(error: ApiError) -> ServerEvent {
    let data = serde_json::to_string(&error.body());
    let data = data.unwrap_or_else(|_| r#"{"error": {"message": "internal error"}}"#.into());
    ServerEvent { name: None, data }
}

/// The same as bytes, for a stream that is cut off.
pub fn error_bytes(error: ApiError) -> Bytes {
    format!("data: {}\n\n", error_event(error).data).into()
}

impl From<ServerEvent> for Event {
    fn from(event: ServerEvent) -> Self {
        let named = event.name.map(|name| Event::default().event(name)).unwrap_or_default();
        named.data(event.data)
    }
}
