//! Server-sent events.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::Extension;
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
    pub data: String,
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

/// The event of an error, after some other events.
pub type ErrorEvent = fn(ApiError, usize) -> ServerEvent;

/// How a stream ends that is cut off: an extension of its response.
#[derive(Clone)]
pub struct CutOff {
    /// The events sent so far.
    sent: Arc<AtomicUsize>,
    error_event: ErrorEvent,
}

impl CutOff {
    /// The last event.
    pub fn last_event(&self, error: ApiError) -> Bytes {
        let ServerEvent { name, data } =
            (self.error_event)(error, self.sent.load(Ordering::Relaxed));
        let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
        format!("{name}data: {data}\n\n").into()
    }
}

/// Streams `events`. The stream ends after the first error, which is sent as an event, so that clients can tell an
/// interrupted answer from a complete one.
pub fn respond(
    events: impl Stream<Item = Result<ServerEvent, ApiError>> + Send + 'static,
    error_event: ErrorEvent,
) -> Response {
    let cut_off = CutOff { sent: Arc::default(), error_event };
    let sent = cut_off.sent.clone();
    let events = stream::unfold(Some(Box::pin(events)), move |events| {
        let sent = sent.clone();
        async move {
            let mut events = events?;
            let (event, rest) = match events.next().await? {
                Ok(event) => (event, Some(events)),
                Err(error) => (error_event(error, sent.load(Ordering::Relaxed)), None),
            };
            sent.fetch_add(1, Ordering::Relaxed);
            Some((Ok::<_, Infallible>(event.into()), rest))
        }
    });
    let response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    (Extension(cut_off), response).into_response()
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

/// The event of an error in the chat and completions endpoints.
pub fn error_event(error: ApiError, _sent: usize) -> ServerEvent {
    let data = serde_json::to_string(&error.body());
    let data = data.unwrap_or_else(|_| r#"{"error": {"message": "internal error"}}"#.into());
    ServerEvent { name: None, data }
}

impl From<ServerEvent> for Event {
    fn from(event: ServerEvent) -> Self {
        let named = event.name.map(|name| Event::default().event(name)).unwrap_or_default();
        named.data(event.data)
    }
}
