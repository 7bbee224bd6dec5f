//! Errors in OpenAI's format: `{"error": {"message", "type", "param", "code"}}`.

use std::fmt::Display;
use std::time::Duration;

use axum::http::{header, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::Json;
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::{Error, GrammarError};

/// An error.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ApiError {
    /// The HTTP status.
    #[serde(skip)]
    pub status: StatusCode,
    /// What is wrong, and what is expected.
    pub message: String,
    /// `invalid_request_error` if the request is at fault, else `server_error`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The field that is at fault.
    pub param: Option<String>,
    /// A machine-readable code.
    pub code: Option<&'static str>,
    /// When the request may succeed: the header Retry-After.
    #[serde(skip)]
    retry_after: Option<Duration>,
}

/// The body of an error response.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    error: ApiError,
}

/// The error responses of the endpoints that generate answers.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "describes the responses")]
pub enum ErrorResponses {
    /// The request is invalid.
    #[response(status = 400)]
    BadRequest(#[to_schema] ErrorBody),
    /// The request has no API key, or a wrong one.
    #[response(status = 401)]
    Unauthorized(#[to_schema] ErrorBody),
    /// The request comes from a web page whose origin is not allowed, or its Host header does not name this machine.
    #[response(status = 403)]
    Forbidden(#[to_schema] ErrorBody),
    /// The model does not exist.
    #[response(status = 404)]
    NotFound(#[to_schema] ErrorBody),
    /// The body was not received in time.
    #[response(status = 408)]
    RequestTimeout(#[to_schema] ErrorBody),
    /// The body is too large.
    #[response(status = 413)]
    PayloadTooLarge(#[to_schema] ErrorBody),
    /// The Content-Type is not application/json.
    #[response(status = 415)]
    UnsupportedMediaType(#[to_schema] ErrorBody),
    /// As many answers run and wait as the server takes; the header Retry-After says when to ask again.
    #[response(status = 429)]
    TooManyRequests(#[to_schema] ErrorBody),
    /// The server failed to process the request.
    #[response(status = 500)]
    InternalServerError(#[to_schema] ErrorBody),
    /// The server is shutting down or too busy.
    #[response(status = 503)]
    ServiceUnavailable(#[to_schema] ErrorBody),
    /// The request took longer than the server allows.
    #[response(status = 504)]
    GatewayTimeout(#[to_schema] ErrorBody),
}

impl ApiError {
    /// A bad request (status 400).
    pub fn new(message: impl Into<String>) -> Self {
        let error = Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
            kind: "",
            param: None,
            code: None,
            retry_after: None,
        };
        error.with_status(StatusCode::BAD_REQUEST)
    }

    /// A field has an invalid value.
    pub fn invalid_value(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(message).with_param(param).with_code("invalid_value")
    }

    /// A field, or this value of it, is not supported.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(message).with_param(param).with_code("unsupported_parameter")
    }

    /// The model does not exist.
    pub fn model_not_found(message: impl Into<String>) -> Self {
        Self::new(message)
            .with_status(StatusCode::NOT_FOUND)
            .with_param("model")
            .with_code("model_not_found")
    }

    /// The server failed; the request is not at fault.
    pub fn internal(error: impl Display) -> Self {
        Self::new(error.to_string()).with_status(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Sets the status, and the error type that belongs to it.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self.kind = if status.is_client_error() { "invalid_request_error" } else { "server_error" };
        self
    }

    /// Sets the field that is at fault.
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Sets the machine-readable code.
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Sets when the request may succeed.
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// The body of the response.
    pub fn body(self) -> ErrorBody {
        ErrorBody { error: self }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status, self.retry_after);
        let mut response = (status, Json(self.body())).into_response();
        if let Some(retry_after) = retry_after {
            let seconds = retry_after.as_secs_f64().ceil() as u64;
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::ChainCount(_) => Self::invalid_value("chains", message),
            Error::ContextLength { .. } | Error::TextLength { .. } => {
                Self::new(message).with_code("context_length_exceeded")
            }
            Error::EmptyPrompt
            | Error::UnknownToken { .. }
            | Error::UnknownBias { .. }
            | Error::InvalidDry { .. }
            | Error::ChatTemplate(_)
            | Error::Tokenizer(_)
            | Error::Refused(_) => Self::new(message).with_code("invalid_value"),
            Error::NoChatTemplate => {
                Self::new(format!("{message}, as in /v1/completions")).with_code("invalid_value")
            }
            Error::Grammar(GrammarError::Busy) | Error::Stopped => {
                Self::new(message).with_status(StatusCode::SERVICE_UNAVAILABLE)
            }
            Error::Grammar(_) => Self::new(message).with_code("invalid_grammar"),
            Error::Failed(_)
            | Error::Load { .. }
            | Error::InvalidOption { .. }
            | Error::Serve { .. } => {
                tracing::error!("{message}");
                Self::internal(message)
            }
        }
    }
}
