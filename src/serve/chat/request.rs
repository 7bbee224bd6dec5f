//! The body of `POST /v1/chat/completions`.

use std::collections::HashMap;

use colm_prompt::Conversation;
use indexmap::IndexMap;
use serde::de::IgnoredAny;
use serde::Deserialize;
use serde_json::{json, Map, Value};
use utoipa::ToSchema;

use super::super::error::ApiError;
use super::super::fields::Fields;
use super::super::format::{grammar, GrammarField, ResponseFormat};
use super::super::labels::Labels;
use super::super::limits::{check_choices, MAX_TOP_LOGPROBS};
use super::super::model_choice::ModelFields;
use super::super::sampling::{in_range, SamplingFields, Stop};
use super::super::template_message::{
    template_message, template_role, with_parsed_arguments, TemplateMessage,
};
use super::super::tools::{FunctionTool, ToolChoice, Tools};
use crate::{ChainCount, Prompt, Request, SamplingDefaults};

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
    messages: Vec<ChatMessage>,
    /// The maximum number of tokens of an answer. Default: as many as fit the context.
    max_tokens: Option<u32>,
    /// The same as `max_tokens`. If both are given, the smaller value applies.
    max_completion_tokens: Option<u32>,
    /// The number of answers.
    #[schema(minimum = 1, maximum = 128, default = 1)]
    n: Option<u32>,
    stop: Option<Stop>,
    /// Send the answer as server-sent events.
    #[schema(default = false)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// Return the log-probabilities of the answer's tokens.
    logprobs: Option<bool>,
    /// Also return the log-probabilities of this many most likely tokens at each position.
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<u32>,
    response_format: Option<ResponseFormat>,
    grammar: Option<GrammarField>,
    #[schema(max_items = 128)]
    tools: Option<Vec<ToolField>>,
    tool_choice: Option<ToolChoiceField>,
    /// Whether an answer may contain several calls. Default: true.
    parallel_tool_calls: Option<bool>,
    /// A variable of the chat template.
    enable_thinking: Option<bool>,
    /// A variable of the chat template: `low`, `medium` or `high`.
    reasoning_effort: Option<String>,
    /// Further variables of the chat template.
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<Map<String, Value>>,
}

/// Options of a stream.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// Send a last chunk with the usage.
    pub include_usage: Option<bool>,
    /// Only `false`.
    pub include_obfuscation: Option<bool>,
}

/// A message.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChatMessage {
    /// `system`, `developer` (a synonym of `system`), `user`, `assistant` or `tool`.
    role: String,
    content: Option<Content>,
    /// Other fields that the chat template uses, such as name, tool_calls, tool_call_id and reasoning_content.
    #[serde(flatten)]
    others: IndexMap<String, Value>,
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
    kind: String,
    text: Option<String>,
    #[serde(flatten)]
    #[schema(ignore)]
    others: HashMap<String, IgnoredAny>,
}

/// A tool.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolField {
    /// `function`.
    #[serde(rename = "type")]
    kind: String,
    function: FunctionTool,
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
    kind: String,
    function: NamedFunction,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedFunction {
    name: String,
}

/// A validated request of the chat endpoint.
pub struct Chat {
    pub request: Request,
    pub choices: usize,
    pub tools: Tools,
    pub stream: bool,
    pub include_usage: bool,
}

impl Chat {
    /// Validates `fields` for an answer at `k` chains. `context` is the longest sequence, in tokens. `defaults` are the
    /// model's sampling defaults.
    pub fn from_fields(
        fields: &mut Fields,
        k: ChainCount,
        context: usize,
        defaults: &SamplingDefaults,
    ) -> Result<Self, ApiError> {
        let chat: ChatFields = fields.take()?;
        let sampling: SamplingFields = fields.take()?;
        fields.take::<Labels>()?.check()?;
        let max_tokens = match (chat.max_tokens, chat.max_completion_tokens) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let choices = check_choices(chat.n.unwrap_or(1), 1, max_tokens, context)?;
        let sent = fields.sent("tools");
        let tools = tools(chat.tools, sent, chat.tool_choice, chat.parallel_tool_calls)?;
        let requested = grammar(chat.response_format, chat.grammar)?;
        let forced = tools.grammar();
        if requested.is_some() && forced.is_some() {
            let message =
                "a forced tool call excludes response_format and grammar: expected one of them";
            return Err(ApiError::invalid_value("tool_choice", message));
        }
        let conversation = Conversation {
            messages: messages(chat.messages)?,
            tools: tools.for_template(),
            variables: variables(
                chat.enable_thinking,
                chat.reasoning_effort,
                chat.chat_template_kwargs,
            )?,
            add_generation_prompt: true,
        };
        let mut request = Request::new(Prompt::Conversation(Box::new(conversation))).chains(k);
        sampling.apply(&mut request, defaults)?;
        request.max_tokens = max_tokens.map(|tokens| tokens as usize);
        request.stop = Stop::strings(chat.stop)?;
        tools.check_stop(&request.stop)?;
        request.grammar = requested.or(forced);
        request.logprobs = logprobs(chat.logprobs, chat.top_logprobs)?;
        request.shown_tokens = tools.shown_tokens();
        let options = chat.stream_options.unwrap_or_default();
        let stream = chat.stream.unwrap_or(false);
        check_stream_options(&options)?;
        let include_usage = options.include_usage.unwrap_or(false);
        Ok(Self { request, choices, tools, stream, include_usage })
    }
}

/// Fails if an option of the stream is not supported.
pub fn check_stream_options(options: &StreamOptions) -> Result<(), ApiError> {
    if options.include_obfuscation == Some(true) {
        let message = "include_obfuscation: expected false, streams are not obfuscated";
        return Err(ApiError::unsupported("stream_options.include_obfuscation", message));
    }
    Ok(())
}

fn logprobs(enabled: Option<bool>, top: Option<u32>) -> Result<Option<usize>, ApiError> {
    in_range("top_logprobs", top, 0..=MAX_TOP_LOGPROBS)?;
    match (enabled, top) {
        (Some(true), top) => Ok(Some(top.unwrap_or(0) as usize)),
        (_, None | Some(0)) => Ok(None),
        (_, Some(_)) => {
            Err(ApiError::invalid_value("top_logprobs", "top_logprobs requires \"logprobs\": true"))
        }
    }
}

/// The variables of the chat template other than messages and tools. They are defined only if the request sets them.
fn variables(
    enable_thinking: Option<bool>,
    effort: Option<String>,
    others: Option<Map<String, Value>>,
) -> Result<Map<String, Value>, ApiError> {
    const OTHERS: &str = "chat_template_kwargs";
    let mut variables = others.unwrap_or_default();
    if let Some(name) = OWN_VARIABLES.into_iter().find(|name| variables.contains_key(*name)) {
        let message = format!("{name} is set by the server: expected other variables only");
        return Err(ApiError::invalid_value(format!("{OTHERS}.{name}"), message));
    }
    let fields = [
        ("enable_thinking", enable_thinking.map(Value::from)),
        ("reasoning_effort", effort.map(reasoning_effort).transpose()?.map(Value::from)),
    ];
    for (name, value) in fields {
        let Some(value) = value else { continue };
        if variables.insert(name.into(), value).is_some() {
            let message = format!("{name} is given twice: expected it once");
            return Err(ApiError::invalid_value(format!("{OTHERS}.{name}"), message));
        }
    }
    Ok(variables)
}

/// Template variables that the server sets itself.
const OWN_VARIABLES: [&str; 4] = ["messages", "tools", "add_generation_prompt", "strftime_now"];

/// Validates `reasoning_effort`.
pub fn reasoning_effort(effort: String) -> Result<String, ApiError> {
    match effort.as_str() {
        "low" | "medium" | "high" => Ok(effort),
        _ => Err(ApiError::invalid_value(
            "reasoning_effort",
            "reasoning effort: expected low, medium or high",
        )),
    }
}

/// Validates the tools. The chat template gets them as they were `sent`.
fn tools(
    tools: Option<Vec<ToolField>>,
    sent: Option<Value>,
    choice: Option<ToolChoiceField>,
    parallel: Option<bool>,
) -> Result<Tools, ApiError> {
    let tools = tools.unwrap_or_default();
    if let Some(index) = tools.iter().position(|tool| tool.kind != "function") {
        let message = "expected a tool of type function: there are no built-in tools";
        return Err(ApiError::unsupported(format!("tools[{index}].type"), message));
    }
    let choice = match choice {
        None => None,
        Some(ToolChoiceField::Named(tool)) if tool.kind == "function" => {
            Some(ToolChoice::Named(tool.function.name))
        }
        Some(ToolChoiceField::Mode(mode)) => Some(ToolChoice::from_mode(&mode)?),
        Some(ToolChoiceField::Named(_)) => {
            let message = "tool_choice: expected type function";
            return Err(ApiError::unsupported("tool_choice.type", message));
        }
    };
    let template_tools = match sent {
        Some(Value::Array(sent)) => sent,
        _ => Vec::new(),
    };
    Tools::new(
        tools.into_iter().map(|tool| tool.function).collect(),
        template_tools,
        choice,
        parallel,
    )
}

fn messages(messages: Vec<ChatMessage>) -> Result<Vec<TemplateMessage>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid_value("messages", "messages: expected at least one message"));
    }
    messages.into_iter().enumerate().map(|(index, message)| chat_message(index, message)).collect()
}

/// The message as the chat template gets it.
fn chat_message(index: usize, message: ChatMessage) -> Result<TemplateMessage, ApiError> {
    let at = |field: &str| format!("messages[{index}].{field}");
    let role = message.role.as_str();
    if !["system", "developer", "user", "assistant", "tool"].contains(&role) {
        let message = "role: expected system, developer, user, assistant or tool";
        return Err(ApiError::invalid_value(at("role"), message));
    }
    let content = match message.content {
        Some(Content::Text(text)) => Value::from(text),
        Some(Content::Parts(parts)) => text_parts(parts, &at("content"))?,
        None => Value::Null,
    };
    let mut converted = template_message(template_role(role), content);
    for (field, value) in message.others {
        let value = match field.as_str() {
            "tool_calls" if !value.is_null() => tool_calls(value, &at("tool_calls"))?,
            _ => value,
        };
        converted.insert(field, value);
    }
    let no_calls = |field: &str, value: &Value| {
        field == "tool_calls" && value.as_array().is_some_and(Vec::is_empty)
    };
    converted.retain(|field, value| !value.is_null() && !no_calls(field, value));
    if !converted.contains_key("content") && !converted.contains_key("tool_calls") {
        let message = format!("messages[{index}] has no content: expected content or tool_calls");
        return Err(ApiError::invalid_value(at("content"), message));
    }
    Ok(converted)
}

/// Converts text parts. Fails if a part is not a text.
fn text_parts(parts: Vec<TextPart>, at: &str) -> Result<Value, ApiError> {
    let texts = parts.into_iter().enumerate().map(|(index, part)| match part.text {
        Some(text) if part.kind == "text" && part.others.is_empty() => {
            Ok(json!({"type": "text", "text": text}))
        }
        _ => {
            let kind: String = part.kind.chars().take(50).collect();
            let message = format!(
                "a part of type {kind}: expected only {{\"type\": \"text\", \"text\": ..}}"
            );
            Err(ApiError::unsupported(format!("{at}[{index}]"), message))
        }
    });
    texts.collect()
}

/// Validates the tool calls of an earlier answer.
fn tool_calls(calls: Value, at: &str) -> Result<Value, ApiError> {
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only its types are checked")]
    struct Call {
        id: Option<String>,
        function: Function,
    }
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only its types are checked")]
    struct Function {
        name: String,
        arguments: Value,
    }
    Vec::<Call>::deserialize(&calls).map_err(|error| {
        let message = format!(
            "expected [{{\"id\", \"type\", \"function\": {{\"name\", \"arguments\"}}}}]: {error}"
        );
        ApiError::invalid_value(at, message)
    })?;
    let calls = calls.as_array().cloned().unwrap_or_default();
    Ok(calls.into_iter().map(with_parsed_arguments).collect())
}
