//! Bodies of responses that hold a guard until they have been sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use http_body::{Body as _, Frame, SizeHint};
use tracing::Span;

/// What lives as long as the body of a response.
pub(super) trait BodyGuard: Unpin {
    /// The span in which the body is computed.
    fn span(&self) -> Span {
        Span::none()
    }

    /// The connection has taken the whole body.
    fn complete(&mut self) {}
}

/// A body, and a guard that is dropped with it.
pub(super) struct GuardedBody<G> {
    body: Body,
    guard: G,
}

impl<G: BodyGuard> GuardedBody<G> {
    /// `body`, which keeps `guard`.
    pub(super) fn new(body: Body, mut guard: G) -> Self {
        if body.is_end_stream() {
            guard.complete();
        }
        Self { body, guard }
    }
}

impl<G: BodyGuard> http_body::Body for GuardedBody<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let span = self.guard.span();
        let frame = span.in_scope(|| Pin::new(&mut self.body).poll_frame(context));
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.guard.complete();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
