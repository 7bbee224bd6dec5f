//! The answer: an object with the output items and the parameters of the request.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::body::{EchoedFields, ResponseTool};
use crate::serve::answers::unix_time;
use crate::serve::logprobs::TokenLogprob;
use crate::Usage;

/// An answer: `response`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ResponseBody {
    pub id: String,
    pub object: &'static str,
    /// In seconds since 1970.
    pub created_at: u64,
    pub status: Status,
    /// Always null: a request that fails gets an error response.
    pub error: Option<String>,
    /// The reason, if the answer is incomplete.
    pub incomplete_details: Option<IncompleteDetails>,
    /// NAME@k, where k is the number of chains that answer.
    pub model: String,
    pub output: Vec<OutputItem>,
    /// Set when the answer is complete.
    pub usage: Option<ResponseUsage>,
    pub tools: Vec<ResponseTool>,
    #[serde(flatten)]
    pub echoed: EchoedFields,
    /// Always null: answers are not stored.
    pub previous_response_id: Option<String>,
    /// Always false.
    pub store: bool,
    /// Always false.
    pub background: bool,
    /// Always `disabled`.
    pub truncation: &'static str,
    /// Always `default`.
    pub service_tier: &'static str,
}

/// The status of an answer or an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    InProgress,
    Completed,
    /// It was cut off at the maximum length.
    Incomplete,
}

/// Why an answer is incomplete.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct IncompleteDetails {
    /// `max_output_tokens`: the maximum number of tokens was reached, or the context is full.
    pub reason: &'static str,
}

/// An item of an answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputItem {
    Message(OutputMessage),
    FunctionCall(OutputCall),
}

/// A message of the model.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OutputMessage {
    pub id: String,
    pub status: Status,
    /// `assistant`.
    pub role: &'static str,
    /// One part. Empty in the event that adds the message.
    pub content: Vec<OutputText>,
}

/// The text of a message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OutputText {
    /// `output_text`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub text: String,
    /// Always empty.
    pub annotations: Vec<String>,
    /// The log-probabilities of the tokens, if `include` asks for them.
    pub logprobs: Vec<TokenLogprob>,
}

/// A function call of the model.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OutputCall {
    pub id: String,
    pub call_id: String,
    pub name: String,
    /// The arguments as JSON text.
    pub arguments: String,
    pub status: Status,
}

/// The token counts of a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ResponseUsage {
    pub input_tokens: usize,
    pub input_tokens_details: InputTokensDetails,
    pub output_tokens: usize,
    pub output_tokens_details: OutputTokensDetails,
    pub total_tokens: usize,
    /// Tokens of the answer by the number of chains that computed them.
    // A key of a JSON object is a string, in the description too.
    #[schema(value_type = BTreeMap<String, usize>)]
    pub chains: BTreeMap<usize, usize>,
}

/// Details of the input tokens.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct InputTokensDetails {
    /// Tokens found in the prefix cache.
    pub cached_tokens: usize,
}

/// Details of the output tokens.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct OutputTokensDetails {
    /// Always 0: reasoning tokens are not counted separately.
    pub reasoning_tokens: usize,
    /// Tokens that the first chain has drafted and the other chains have confirmed (`--drafts`).
    pub accepted_prediction_tokens: usize,
    /// Tokens that the first chain has drafted and the other chains have not confirmed.
    pub rejected_prediction_tokens: usize,
}

impl ResponseBody {
    /// An empty answer in progress. `model` is NAME@k.
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
    /// An empty message in progress.
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
    /// A call of the function `name` in progress, without arguments.
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
        let Usage { prompt_tokens, cached_tokens, completion_tokens, chains, .. } = usage;
        let rejected = usage.drafted_tokens.saturating_sub(usage.accepted_tokens);
        Self {
            input_tokens: prompt_tokens,
            input_tokens_details: InputTokensDetails { cached_tokens },
            output_tokens: completion_tokens,
            output_tokens_details: OutputTokensDetails {
                reasoning_tokens: 0,
                accepted_prediction_tokens: usage.accepted_tokens,
                rejected_prediction_tokens: rejected,
            },
            total_tokens: prompt_tokens + completion_tokens,
            chains: BTreeMap::from([(chains, completion_tokens)]),
        }
    }
}

/// A unique id, `KIND_..`.
fn new_id(kind: &str) -> String {
    format!("{kind}_{}", Uuid::new_v4().simple())
}
