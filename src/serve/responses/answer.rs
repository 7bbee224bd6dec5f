//! The answer: an object with what was asked, and the items that the model has said.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::answers::unix_time;
use super::super::logprobs::TokenLogprob;
use super::body::{EchoedFields, ResponseTool};
use crate::Usage;

/// An answer: `response`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ResponseBody {
    pub id: String,
    pub object: &'static str,
    /// In seconds since 1970.
    pub created_at: u64,
    pub status: Status,
    /// null: requests that fail are answered with an error.
    pub error: Option<String>,
    /// Why the answer is incomplete, if it is.
    pub incomplete_details: Option<IncompleteDetails>,
    /// NAME@k: the chains that answer.
    pub model: String,
    pub output: Vec<OutputItem>,
    /// At the end.
    pub usage: Option<ResponseUsage>,
    pub tools: Vec<ResponseTool>,
    #[serde(flatten)]
    pub echoed: EchoedFields,
    /// null: answers are not stored.
    pub previous_response_id: Option<String>,
    /// false
    pub store: bool,
    /// false
    pub background: bool,
    /// disabled
    pub truncation: &'static str,
    /// default
    pub service_tier: &'static str,
}

/// How far an answer or an item has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    InProgress,
    Completed,
    /// It was cut.
    Incomplete,
}

/// Why an answer is incomplete.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct IncompleteDetails {
    /// max_output_tokens: they have come, or the context is full.
    pub reason: &'static str,
}

/// An item of an answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputItem {
    Message(OutputMessage),
    FunctionCall(OutputCall),
}

/// What the model says.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OutputMessage {
    pub id: String,
    pub status: Status,
    /// assistant
    pub role: &'static str,
    /// One part, once it has begun.
    pub content: Vec<OutputText>,
}

/// A text.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OutputText {
    /// output_text
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub text: String,
    /// There are none.
    pub annotations: Vec<String>,
    /// Of its tokens, if asked for.
    pub logprobs: Vec<TokenLogprob>,
}

/// A function that the model calls.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OutputCall {
    pub id: String,
    pub call_id: String,
    pub name: String,
    /// JSON.
    pub arguments: String,
    pub status: Status,
}

/// What an answer took.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct ResponseUsage {
    pub input_tokens: usize,
    pub input_tokens_details: InputTokensDetails,
    pub output_tokens: usize,
    pub output_tokens_details: OutputTokensDetails,
    pub total_tokens: usize,
}

/// Of the input.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct InputTokensDetails {
    /// Found in the prefix cache.
    pub cached_tokens: usize,
}

/// Of the answer.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct OutputTokensDetails {
    /// 0: they are not told apart.
    pub reasoning_tokens: usize,
}

impl ResponseBody {
    /// An answer that has not begun, by the chains that `model` names.
    pub fn begin(model: String, echoed: EchoedFields, tools: Vec<ResponseTool>) -> Self {
        Self {
            id: new_id("resp"),
            object: "response",
            created_at: unix_time(),
            status: Status::InProgress,
            error: None,
            incomplete_details: None,
            model,
            output: Vec::new(),
            usage: None,
            tools,
            echoed,
            previous_response_id: None,
            store: false,
            background: false,
            truncation: "disabled",
            service_tier: "default",
        }
    }
}

impl OutputMessage {
    /// A message in which nothing is said yet.
    pub fn begin() -> Self {
        let (id, status) = (new_id("msg"), Status::InProgress);
        Self { id, status, role: "assistant", content: Vec::new() }
    }
}

impl Default for OutputText {
    fn default() -> Self {
        let (text, annotations, logprobs) = Default::default();
        Self { kind: "output_text", text, annotations, logprobs }
    }
}

impl OutputCall {
    /// A call of `name` without its arguments.
    pub fn begin(name: String) -> Self {
        Self {
            id: new_id("fc"),
            call_id: new_id("call"),
            name,
            arguments: String::new(),
            status: Status::InProgress,
        }
    }
}

impl From<Usage> for ResponseUsage {
    fn from(usage: Usage) -> Self {
        let Usage { prompt_tokens, cached_tokens, completion_tokens, .. } = usage;
        Self {
            input_tokens: prompt_tokens,
            input_tokens_details: InputTokensDetails { cached_tokens },
            output_tokens: completion_tokens,
            output_tokens_details: OutputTokensDetails { reasoning_tokens: 0 },
            total_tokens: prompt_tokens + completion_tokens,
        }
    }
}

/// An id that nothing else has: `KIND_..`.
fn new_id(kind: &str) -> String {
    format!("{kind}_{}", Uuid::new_v4().simple())
}
