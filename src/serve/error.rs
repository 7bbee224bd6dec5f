//! Errors as OpenAI's clients know them: `{"error": {"message", "type", "param", "code"}}`.

use std::fmt::Display;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::Json;
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::{Error, GrammarError};

/// Why a request is not answered.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub struct Refusal {
    /// The HTTP status.
    #[serde(skip)]
    pub status: StatusCode,
    /// What is wrong, in words.
    pub message: String,
    /// `invalid_request_error`, or `server_error` where the request is not at fault.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The field it is about.
    pub param: Option<String>,
    /// For programs.
    pub code: Option<&'static str>,
}

/// The body of an error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    error: Refusal,
}

/// The statuses of the errors of every endpoint that answers.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "describes the responses")]
pub enum Errors {
    /// The request cannot be answered.
    #[response(status = 400)]
    BadRequest(#[to_schema] ErrorBody),
    /// A page of an origin that is not allowed, or a host name that is not this machine's.
    #[response(status = 403)]
    Forbidden(#[to_schema] ErrorBody),
    /// The model is not served.
    #[response(status = 404)]
    NotFound(#[to_schema] ErrorBody),
    /// The body has not arrived.
    #[response(status = 408)]
    Timeout(#[to_schema] ErrorBody),
    /// The body is too long.
    #[response(status = 413)]
    TooLong(#[to_schema] ErrorBody),
    /// The body is not announced as JSON.
    #[response(status = 415)]
    NotJson(#[to_schema] ErrorBody),
    /// The server has failed in this request.
    #[response(status = 500)]
    Failed(#[to_schema] ErrorBody),
    /// The server is being stopped, or is too busy.
    #[response(status = 503)]
    Unavailable(#[to_schema] ErrorBody),
}

impl Refusal {
    /// A bad request.
    pub fn new(message: impl Into<String>) -> Self {
        let refusal = Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
            kind: "",
            param: None,
            code: None,
        };
        refusal.with_status(StatusCode::BAD_REQUEST)
    }

    /// A field of a value that cannot be answered.
    pub fn value(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(message).of(param).coded("invalid_value")
    }

    /// A field that colm does not have, or does not have in this form.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(message).of(param).coded("unsupported_parameter")
    }

    /// A request for a model that is not served.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(message).with_status(StatusCode::NOT_FOUND).of("model").coded("model_not_found")
    }

    /// A failure that is not the request's.
    pub fn internal(error: impl Display) -> Self {
        Self::new(error.to_string()).with_status(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// With another status, and the type that goes with it.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self.kind = if status.is_client_error() { "invalid_request_error" } else { "server_error" };
        self
    }

    /// About the field `param`.
    pub fn of(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// With a code that programs understand.
    pub fn coded(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The body.
    pub fn body(self) -> ErrorBody {
        ErrorBody { error: self }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body())).into_response()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::ChainCount(_) => Self::value("chains", message),
            Error::ContextLength { .. } | Error::TextLength { .. } => {
                Self::new(message).coded("context_length_exceeded")
            }
            Error::EmptyPrompt
            | Error::UnknownToken { .. }
            | Error::NoChatTemplate
            | Error::ChatTemplate(_)
            | Error::Tokenizer(_)
            | Error::Refused(_) => Self::new(message).coded("invalid_value"),
            Error::Grammar(GrammarError::Busy) | Error::Stopped => {
                Self::new(message).with_status(StatusCode::SERVICE_UNAVAILABLE)
            }
            Error::Grammar(_) => Self::new(message).coded("invalid_grammar"),
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
