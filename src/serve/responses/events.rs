//! The events of a streamed answer.

use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{OutputItem, OutputText, ResponseBody};
use crate::serve::error::ApiError;
use crate::serve::logprobs::TokenLogprob;
use crate::serve::sse::{self, ServerEvent};

/// An event of a stream. The name of the event is its type.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResponseEvent {
    /// The type, such as `response.created` or `response.output_text.delta`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Starts at 0.
    pub sequence_number: usize,
    #[serde(flatten)]
    pub data: EventData,
}

/// The data of an event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum EventData {
    /// response.created, .in_progress, .completed and .incomplete: the answer so far.
    Response { response: Box<ResponseBody> },
    /// response.output_item.added and .done
    Item { output_index: usize, item: OutputItem },
    /// response.content_part.added and .done
    Part {
        #[serde(flatten)]
        at: PartPlace,
        part: OutputText,
    },
    /// response.output_text.delta
    TextDelta {
        #[serde(flatten)]
        at: PartPlace,
        delta: String,
        logprobs: Vec<TokenLogprob>,
    },
    /// response.output_text.done
    TextDone {
        #[serde(flatten)]
        at: PartPlace,
        text: String,
        logprobs: Vec<TokenLogprob>,
    },
    /// response.function_call_arguments.delta
    ArgumentsDelta { item_id: String, output_index: usize, delta: String },
    /// response.function_call_arguments.done
    ArgumentsDone { item_id: String, output_index: usize, name: String, arguments: String },
    /// error: the answer has failed.
    Error { code: Option<&'static str>, message: String, param: Option<String> },
}

/// The position of a part of a message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PartPlace {
    pub item_id: String,
    pub output_index: usize,
    /// Always 0: a message has one part.
    pub content_index: usize,
}

impl ResponseEvent {
    /// As it is sent.
    pub fn server_event(&self) -> Result<ServerEvent, ApiError> {
        Ok(ServerEvent::json(self)?.named(self.kind))
    }
}

/// The last event of an answer that fails after `sequence_number` events.
pub fn error_event(error: ApiError, sequence_number: usize) -> ServerEvent {
    let event = ResponseEvent { kind: "error", sequence_number, data: error.into() };
    event.server_event().unwrap_or_else(|error| sse::error_event(error, sequence_number))
}

impl From<ApiError> for EventData {
    fn from(error: ApiError) -> Self {
        let ApiError { code, message, param, .. } = error;
        Self::Error { code, message, param }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, Value};

    use super::*;

    #[test]
    fn a_failure_is_an_event_with_the_next_number() {
        let event = error_event(ApiError::invalid_value("input", "no"), 2);
        assert_eq!(event.name, Some("error"));
        let expected = json!({
            "type": "error", "sequence_number": 2,
            "code": "invalid_value", "message": "no", "param": "input",
        });
        assert_eq!(serde_json::from_str::<Value>(&event.data).unwrap(), expected);
    }
}
