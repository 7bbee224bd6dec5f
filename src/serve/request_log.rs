//! The id of a request, and a line of the log when its response has been sent.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use colm_checkpoint::abbreviate;
use tracing::{error_span, info, Instrument, Span};
use uuid::Uuid;

use super::guarded_body::{BodyGuard, GuardedBody};
use super::metrics::Metrics;

/// The header with the id of a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a client.
const MAX_ID: usize = 128;

/// Middleware: gives each request an id, the client's if it has sent one. Each line that is logged for the request has
/// it, and so has the response.
pub(super) async fn log_request(
    State(metrics): State<Metrics>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = id_of(&request);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    // At the highest level, so that warnings have the id at every level of the log.
    let span = error_span!("request", id = id.to_str().unwrap_or_default());
    let line = Line {
        method: request.method().clone(),
        path: abbreviate(request.uri().path()).into_owned(),
        began: Instant::now(),
        status: None,
        complete: false,
        span: span.clone(),
    };
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("other", MatchedPath::as_str).to_string();
    let mut response = next.run(request).instrument(span).await;
    response.headers_mut().insert(REQUEST_ID, id);
    metrics.count_response(&route, response.status().as_u16());
    let mut line = line;
    line.status = Some(response.status());
    response.map(|body| Body::new(GuardedBody::new(body, line)))
}

/// The id that the client has sent, if it is printable and not too long, or a new one.
fn id_of(request: &Request) -> HeaderValue {
    let sent = request.headers().get(REQUEST_ID).filter(|id| {
        (1..=MAX_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    sent.cloned().unwrap_or_else(|| {
        let id = Uuid::new_v4().simple().to_string();
        HeaderValue::from_str(&id).expect("hexadecimal digits are a header value")
    })
}

/// Logs one line when it is dropped: when the response has been sent, or the client has left.
struct Line {
    method: Method,
    path: String,
    began: Instant,
    /// None if the client has left before there was a response.
    status: Option<StatusCode>,
    /// Whether the whole response was taken by the connection.
    complete: bool,
    span: Span,
}

impl Drop for Line {
    fn drop(&mut self) {
        let _entered = self.span.enter();
        let Self { method, path, status, complete, .. } = self;
        let (status, ms) =
            (status.map(|status| status.as_u16()), self.began.elapsed().as_secs_f64() * 1e3);
        let end = if *complete { "sent" } else { "client left" };
        info!(target: "colm::requests", %method, path, status, ms = format!("{ms:.1}"), end);
    }
}

impl BodyGuard for Line {
    fn span(&self) -> Span {
        self.span.clone()
    }

    fn complete(&mut self) {
        self.complete = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sent: Option<&[u8]>) -> String {
        let mut request = Request::new(Body::empty());
        if let Some(sent) = sent {
            request.headers_mut().insert(REQUEST_ID, HeaderValue::from_bytes(sent).unwrap());
        }
        id_of(&request).to_str().unwrap().to_string()
    }

    #[test]
    fn an_id_is_taken_from_the_client_if_it_is_printable() {
        assert_eq!(id(Some(b"req-1/2:a")), "req-1/2:a");
        for sent in [
            None,
            Some(&b""[..]),
            Some(b"two words"),
            Some(b"tab\there"),
            Some(b"\xff"),
            Some(&[b'a'; 129]),
        ] {
            let id = id(sent);
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        }
    }
}
