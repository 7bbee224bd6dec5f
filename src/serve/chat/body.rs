//! The body of `POST /v1/chat/completions`.

use std::collections::HashMap;

use indexmap::IndexMap;
use serde::de::IgnoredAny;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::serve::format::{GrammarField, ResponseFormat};
use crate::serve::model_choice::ModelFields;
use crate::serve::sampling::{SamplingFields, Stop};
use crate::serve::stream_options::StreamOptions;
use crate::serve::tools::FunctionTool;

/// The body, for the OpenAPI document.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "describes the body")]
pub struct ChatCompletionRequest {
    #[serde(flatten)]
    model: ModelFields,
    #[serde(flatten)]
    chat: ChatFields,
    #[serde(flatten)]
    sampling: SamplingFields,
}

/// The fields of a chat.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChatFields {
    #[schema(min_items = 1)]
    pub messages: Vec<ChatMessage>,
    /// The maximum number of tokens of an answer. Default: as many as fit the context.
    pub max_tokens: Option<u32>,
    /// The same as `max_tokens`. If both are given, the smaller value applies.
    pub max_completion_tokens: Option<u32>,
    /// The number of answers.
    #[schema(minimum = 1, maximum = 128, default = 1)]
    pub n: Option<u32>,
    pub stop: Option<Stop>,
    /// Send the answer as server-sent events.
    #[schema(default = false)]
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
    /// Return the log-probabilities of the answer's tokens.
    pub logprobs: Option<bool>,
    /// Also return the log-probabilities of this many most likely tokens at each position.
    #[schema(minimum = 0, maximum = 20)]
    pub top_logprobs: Option<u32>,
    pub response_format: Option<ResponseFormat>,
    pub grammar: Option<GrammarField>,
    #[schema(max_items = 128)]
    pub tools: Option<Vec<ToolField>>,
    pub tool_choice: Option<ToolChoiceField>,
    /// Whether an answer may contain several calls. Default: true.
    pub parallel_tool_calls: Option<bool>,
    /// A variable of the chat template.
    pub enable_thinking: Option<bool>,
    /// A variable of the chat template: `low`, `medium` or `high`.
    pub reasoning_effort: Option<String>,
    /// Further variables of the chat template.
    #[schema(value_type = Option<Object>)]
    pub chat_template_kwargs: Option<Map<String, Value>>,
}

/// A message.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChatMessage {
    /// `system`, `developer` (a synonym of `system`), `user`, `assistant` or `tool`.
    pub role: String,
    pub content: Option<Content>,
    /// Other fields that the chat template uses, such as name, tool_calls, tool_call_id and reasoning_content.
    #[serde(flatten)]
    pub extra: IndexMap<String, Value>,
}

/// A text, or a list of text parts. Parts are joined by newlines if the chat template supports only texts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of parts of type text")]
pub enum Content {
    Text(String),
    Parts(Vec<TextPart>),
}

/// A part of a message.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TextPart {
    /// `text`.
    #[serde(rename = "type")]
    pub kind: String,
    pub text: Option<String>,
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: HashMap<String, IgnoredAny>,
}

/// A tool.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolField {
    /// `function`.
    #[serde(rename = "type")]
    pub kind: String,
    pub function: FunctionTool,
}

/// Which functions the model may or must call.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected \"none\", \"auto\", \"required\" or {\"type\": \"function\", \"function\": {\"name\": ..}}"
)]
pub enum ToolChoiceField {
    Mode(String),
    Named(NamedTool),
}

/// The tool that must be called.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedTool {
    /// `function`.
    #[serde(rename = "type")]
    pub kind: String,
    pub function: NamedFunction,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedFunction {
    pub name: String,
}
