//! The events of a streamed answer.

use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{OutputItem, OutputText, ResponseBody};
use crate::serve::error::ApiError;
use crate::serve::logprobs::TokenLogprob;

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

impl From<ApiError> for EventData {
    fn from(error: ApiError) -> Self {
        let ApiError { code, message, param, .. } = error;
        Self::Error { code, message, param }
    }
}
