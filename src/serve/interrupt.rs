//! Requests that end before their answer: the server stops, or they take too long.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use futures::{stream, StreamExt};
use tokio::sync::watch;
use tokio::time::sleep;

use super::error::ApiError;
use super::sse::CutOff;
use crate::Error;

/// What ends requests early.
#[derive(Clone, Debug)]
pub(super) struct Interrupt {
    /// True when all requests must end now.
    aborted: Arc<watch::Sender<bool>>,
    /// The longest time from the head of a request to the end of its answer.
    timeout: Option<Duration>,
}

impl Interrupt {
    /// Ends requests after `timeout`, if there is one.
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        Self { aborted: Arc::new(watch::Sender::new(false)), timeout }
    }

    /// Ends all requests.
    pub(super) fn abort(&self) {
        self.aborted.send_replace(true);
    }

    /// Waits until a request that begins now must end. The error says why.
    async fn wait(self) -> ApiError {
        let mut aborted = self.aborted.subscribe();
        let too_late = async {
            match self.timeout {
                Some(timeout) => {
                    sleep(timeout).await;
                    timeout
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // The sender is in `self`, so this cannot fail.
            _ = aborted.wait_for(|aborted| *aborted) => Error::Stopped.into(),
            timeout = too_late => {
                let seconds = timeout.as_secs_f64();
                let message = format!("the request took longer than {seconds} s (--request-timeout)");
                ApiError::new(message).with_status(StatusCode::GATEWAY_TIMEOUT).with_code("timeout")
            }
        }
    }
}

/// Middleware: ends requests that are still running when they must end, such as those that wait in the queue or have
/// sent half a body.
pub(super) async fn interrupt(
    State(interrupt): State<Interrupt>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let mut ends = Box::pin(interrupt.wait());
    let response = tokio::select! {
        biased;
        error = &mut ends => return Err(error),
        response = next.run(request) => response,
    };
    match response.extensions().get::<CutOff>().cloned() {
        Some(cut_off) => Ok(response.map(|body| interruptible(body, cut_off, ends))),
        None => Ok(response),
    }
}

/// The server-sent events of `body`. If `ends` comes first, its error is the last event.
fn interruptible(
    body: Body,
    cut_off: CutOff,
    ends: std::pin::Pin<Box<impl Future<Output = ApiError> + Send + 'static>>,
) -> Body {
    let state = (body.into_data_stream(), cut_off, ends);
    Body::from_stream(stream::unfold(Some(state), |state| async {
        let (mut events, cut_off, mut ends) = state?;
        tokio::select! {
            biased;
            error = &mut ends => Some((Ok(cut_off.last_event(error)), None)),
            event = events.next() => Some((event?, Some((events, cut_off, ends)))),
        }
    }))
}
