//! The body of `POST /v1/responses`.

use indexmap::IndexMap;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::input::InputField;
use crate::serve::chat::template_variables::reasoning_effort;
use crate::serve::error::ApiError;
use crate::serve::format::GrammarField;
use crate::serve::labels::Labels;
use crate::serve::model_choice::ModelFields;
use crate::serve::sampling::{SamplingFields, Stop};
use crate::serve::stream_options::StreamOptions;

/// The body, for the OpenAPI document.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "describes the body")]
pub struct ResponseRequest {
    #[serde(flatten)]
    model: ModelFields,
    #[serde(flatten)]
    response: ResponseFields,
    #[serde(flatten)]
    echoed: EchoedFields,
    #[serde(flatten)]
    sampling: SamplingFields,
    #[serde(flatten)]
    labels: Labels,
}

/// The fields that the answer does not repeat.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ResponseFields {
    #[schema(value_type = InputField)]
    pub input: Box<RawValue>,
    pub stop: Option<Stop>,
    /// Send the answer as server-sent events.
    #[schema(default = false)]
    pub stream: Option<bool>,
    pub stream_options: Option<ResponseStreamOptions>,
    /// Only `message.output_text.logprobs`: return the log-probabilities of the answer's tokens.
    pub include: Option<Vec<String>>,
    #[schema(value_type = Option<Vec<ResponseTool>>, max_items = 128)]
    pub tools: Option<Vec<Box<RawValue>>>,
    pub grammar: Option<GrammarField>,
    /// Only `disabled`.
    pub truncation: Option<String>,
    /// Only `false`.
    #[schema(default = false)]
    pub background: Option<bool>,
}

/// The fields that the answer repeats.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct EchoedFields {
    /// A system message before the input.
    pub instructions: Option<String>,
    /// The maximum number of tokens of an answer. Default: as many as fit the context.
    pub max_output_tokens: Option<u32>,
    #[serde(default)]
    pub text: TextField,
    #[serde(default)]
    pub tool_choice: ResponseToolChoice,
    /// Whether an answer may contain several calls. Default: true.
    #[serde(default = "parallel")]
    pub parallel_tool_calls: bool,
    /// Return the log-probabilities of this many most likely tokens at each position.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 20)]
    pub top_logprobs: u32,
    #[serde(default)]
    pub reasoning: ReasoningField,
    #[schema(value_type = f64)]
    pub temperature: Option<f64>,
    #[schema(value_type = f64)]
    pub top_p: Option<f64>,
    #[serde(default)]
    pub metadata: IndexMap<String, String>,
    pub user: Option<String>,
    pub safety_identifier: Option<String>,
    pub prompt_cache_key: Option<String>,
}

fn parallel() -> bool {
    true
}

/// Fields that refer to stored data. They are not supported.
#[derive(Debug, Deserialize)]
pub struct StateFields {
    previous_response_id: Option<IgnoredAny>,
    conversation: Option<IgnoredAny>,
    prompt: Option<IgnoredAny>,
}

/// Options of a stream.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResponseStreamOptions {
    /// Only `false`.
    include_obfuscation: Option<bool>,
}

/// Options of the text of an answer.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TextField {
    pub format: Option<TextFormat>,
    /// Only `null`.
    #[serde(skip_serializing)]
    pub verbosity: Option<String>,
}

/// The format of a text.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum TextFormat {
    /// Any text.
    Text {},
    /// Any JSON object.
    JsonObject {},
    /// JSON that matches a schema.
    JsonSchema(NamedSchema),
}

/// A JSON schema with a name.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedSchema {
    pub name: String,
    pub description: Option<String>,
    #[schema(value_type = Object)]
    pub schema: Map<String, Value>,
    /// Has no effect: answers always match the schema.
    pub strict: Option<bool>,
}

/// A function that the model may call.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ResponseTool {
    /// `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// 1 to 64 letters, digits, `_` and `-`.
    #[schema(max_length = 64)]
    pub name: String,
    pub description: Option<String>,
    /// A JSON schema of the arguments.
    #[schema(value_type = Option<Object>)]
    pub parameters: Option<Map<String, Value>>,
    /// Has no effect: the arguments of a forced call always match the schema.
    pub strict: Option<bool>,
}

/// Which functions the model may or must call.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected \"none\", \"auto\", \"required\" or {\"type\": \"function\", \"name\": ..}"
)]
pub enum ResponseToolChoice {
    Mode(String),
    Named(NamedTool),
}

/// The function that must be called.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedTool {
    /// `function`.
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
}

/// Options of reasoning.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasoningField {
    /// `low`, `medium` or `high`: the variable `reasoning_effort` of the chat template.
    effort: Option<String>,
    /// Only `null`.
    summary: Option<String>,
}

impl Default for ResponseToolChoice {
    fn default() -> Self {
        Self::Mode("auto".into())
    }
}

impl Default for TextFormat {
    fn default() -> Self {
        Self::Text {}
    }
}

impl StateFields {
    /// Fails if the request refers to stored data.
    pub fn check(&self) -> Result<(), ApiError> {
        let not_stored = "conversations are not stored, expected the whole conversation as input";
        for (field, given, message) in [
            ("previous_response_id", self.previous_response_id.is_some(), not_stored),
            ("conversation", self.conversation.is_some(), not_stored),
            ("prompt", self.prompt.is_some(), "prompts are not stored, expected the text as input"),
        ] {
            if given {
                return Err(ApiError::unsupported(field, format!("{field}: {message}")));
            }
        }
        Ok(())
    }
}

impl ResponseFields {
    /// Fails if a value is not supported.
    pub fn check(&self) -> Result<(), ApiError> {
        if self.truncation.as_deref().is_some_and(|truncation| truncation != "disabled") {
            let message = "truncation: expected disabled, input is never truncated";
            return Err(ApiError::unsupported("truncation", message));
        }
        if self.background == Some(true) {
            let message = "background: expected false, requests do not run in the background";
            return Err(ApiError::unsupported("background", message));
        }
        let include_obfuscation =
            self.stream_options.as_ref().and_then(|options| options.include_obfuscation);
        StreamOptions { include_obfuscation, ..StreamOptions::default() }.check()
    }
}

impl TextField {
    /// Fails if a value is not supported.
    pub fn check(&self) -> Result<(), ApiError> {
        if self.verbosity.is_some() {
            let message = "verbosity: expected null, the model has no verbosity setting";
            return Err(ApiError::unsupported("text.verbosity", message));
        }
        Ok(())
    }
}

impl ReasoningField {
    /// The validated effort.
    pub fn effort(&self) -> Result<Option<String>, ApiError> {
        if self.summary.is_some() {
            let message = "summary: expected null, reasoning is not summarized";
            return Err(ApiError::unsupported("reasoning.summary", message));
        }
        let effort = self.effort.clone().map(reasoning_effort).transpose();
        effort.map_err(|error| ApiError::unsupported("reasoning.effort", error.message))
    }
}
