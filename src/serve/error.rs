//! Errors as OpenAI's clients know them: `{"error": {"message", "type", "param", "code"}}`.

use std::fmt::Display;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{header, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::Json;
use serde::Serialize;
use serde_json::{json, Value};

/// Why a request is not answered.
#[derive(Debug, Serialize)]
pub struct Refusal {
    /// The HTTP status.
    #[serde(skip)]
    pub status: StatusCode,
    /// What is wrong, in words.
    pub message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// The field it is about.
    pub param: Option<&'static str>,
    code: Option<&'static str>,
}

impl Refusal {
    /// A bad request.
    pub fn new(message: String) -> Self {
        let refusal =
            Self { status: StatusCode::BAD_REQUEST, message, kind: "", param: None, code: None };
        refusal.with_status(StatusCode::BAD_REQUEST)
    }

    /// A request for a model that is not served.
    pub fn not_found(message: String) -> Self {
        Self::new(message).with_status(StatusCode::NOT_FOUND).of("model").coded("model_not_found")
    }

    /// A failure that is not the request's.
    pub fn internal(error: impl Display) -> Self {
        Self::new(error.to_string()).with_status(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// With another status, and the type that goes with it.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self.kind = match status.is_client_error() {
            true => "invalid_request_error",
            false => "server_error",
        };
        self
    }

    /// About the field `param`.
    pub fn of(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    /// With a code that programs understand.
    pub fn coded(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The body.
    pub fn body(&self) -> Value {
        json!({ "error": self })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body())).into_response()
    }
}

/// Middleware: gives the host's error answers, `{"message": ..}` or plain text, the one shape.
pub async fn shape(request: Request, next: Next) -> Result<Response, Refusal> {
    let asked = format!("{} {}", request.method(), request.uri().path());
    let response = next.run(request).await;
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(Refusal::internal)?;
    let message = match serde_json::from_slice::<Value>(&body) {
        Ok(value) if value.get("error").is_some() => {
            return Ok(Response::from_parts(parts, body.into()));
        }
        Ok(value) => value.get("message").and_then(Value::as_str).map(str::to_string),
        Err(_) => None,
    };
    let message = message.unwrap_or_else(|| match String::from_utf8_lossy(&body) {
        text if text.is_empty() => format!("{status}: {asked}"),
        text => text.into_owned(),
    });
    // What else the host says in its headers still holds.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_TYPE);
    Ok((parts.headers, Refusal::new(message).with_status(status)).into_response())
}
