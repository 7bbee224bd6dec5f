//! The body of `POST /v1/chat/completions`.

use std::collections::HashMap;

use either::Either;
use indexmap::IndexMap;
use mistralrs_core::ReasoningEffort;
use serde::de::IgnoredAny;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::error::Refusal;
use super::super::fields::Fields;
use super::super::format::{grammar, GrammarField, ResponseFormat};
use super::super::labels::Labels;
use super::super::limits::{check_choices, MOST_TOP_LOGPROBS};
use super::super::model_choice::ModelFields;
use super::super::sampling::{in_range, SamplingFields, Stop};
use super::super::tools::{Choice, FunctionTool, Tools};
use crate::host::request::{Conversation, TemplateMessage};
use crate::{Prompt, Request};

/// The body, for its description.
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
    /// The most tokens of an answer; by default what fits the context.
    max_tokens: Option<u32>,
    /// The same; if both are given, the smaller counts.
    max_completion_tokens: Option<u32>,
    /// How many answers.
    #[schema(minimum = 1, maximum = 128, default = 1)]
    n: Option<u32>,
    stop: Option<Stop>,
    #[schema(default = false)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// Log-probabilities of the answer's tokens.
    logprobs: Option<bool>,
    /// And of so many of the likeliest tokens in their places.
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<u32>,
    response_format: Option<ResponseFormat>,
    grammar: Option<GrammarField>,
    #[schema(max_items = 128)]
    tools: Option<Vec<ToolField>>,
    tool_choice: Option<ToolChoiceField>,
    parallel_tool_calls: Option<bool>,
    /// For chat templates that have a switch for it.
    enable_thinking: Option<bool>,
    /// For chat templates that show it: low, medium or high.
    reasoning_effort: Option<String>,
}

/// Options of a stream.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// Send a last chunk with the tokens used.
    pub include_usage: Option<bool>,
    /// Only `false`.
    pub include_obfuscation: Option<bool>,
}

/// A message.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChatMessage {
    /// system, developer (the same), user, assistant or tool.
    role: String,
    content: Option<Content>,
    /// Whatever else the chat template shows: name, tool_calls, tool_call_id, reasoning_content, ..
    #[serde(flatten)]
    others: IndexMap<String, Value>,
}

/// A text, or several that are joined.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of parts of type text")]
pub enum Content {
    Text(String),
    Parts(Vec<TextPart>),
}

/// A part of a message.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TextPart {
    /// text
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    #[serde(flatten)]
    #[schema(ignore)]
    others: HashMap<String, IgnoredAny>,
}

/// A tool of a chat.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolField {
    /// function
    #[serde(rename = "type")]
    kind: String,
    function: FunctionTool,
}

/// Which functions are called.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected \"none\", \"auto\", \"required\" or {\"type\": \"function\", \"function\": {\"name\": ..}}"
)]
pub enum ToolChoiceField {
    Mode(String),
    Named(NamedTool),
}

/// A tool by its name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedTool {
    /// function
    #[serde(rename = "type")]
    kind: String,
    function: NamedFunction,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedFunction {
    name: String,
}

/// A chat, checked and in the engine's terms.
pub struct Chat {
    pub request: Request,
    pub choices: usize,
    pub tools: Tools,
    pub stream: bool,
    pub include_usage: bool,
}

impl Chat {
    /// The chat that `fields` ask for at `k` chains of a model with a context of `longest` tokens.
    pub fn of(fields: &mut Fields, k: usize, longest: usize) -> Result<Self, Refusal> {
        let chat: ChatFields = fields.take()?;
        let sampling: SamplingFields = fields.take()?;
        fields.take::<Labels>()?.check()?;
        let max_tokens = match (chat.max_tokens, chat.max_completion_tokens) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let choices = check_choices(chat.n.unwrap_or(1), 1, max_tokens, longest)?;
        let tools = tools(chat.tools, chat.tool_choice, chat.parallel_tool_calls)?;
        let given = grammar(chat.response_format, chat.grammar)?;
        let forced = tools.grammar();
        if given.is_some() && forced.is_some() {
            let message = "a forced tool call and another form of the answer exclude each other";
            return Err(Refusal::value("tool_choice", message));
        }
        let conversation = Conversation {
            messages: messages(chat.messages)?,
            tools: tools.for_template(),
            enable_thinking: chat.enable_thinking,
            reasoning_effort: chat.reasoning_effort.map(reasoning_effort).transpose()?,
        };
        let mut request = Request::greedy(Prompt::Conversation(Box::new(conversation))).at(k);
        sampling.apply(&mut request)?;
        request.sampling.max_len = max_tokens.map(|tokens| tokens as usize);
        request.stop = Stop::strings(chat.stop)?;
        tools.check_stop(&request.stop)?;
        request.grammar = given.or(forced);
        request.logprobs = logprobs(chat.logprobs, chat.top_logprobs)?;
        request.shown_tokens = tools.shown_tokens();
        let options = chat.stream_options.unwrap_or_default();
        let stream = chat.stream.unwrap_or(false);
        check_stream_options(&options)?;
        let include_usage = options.include_usage.unwrap_or(false);
        Ok(Self { request, choices, tools, stream, include_usage })
    }
}

/// Refuses options of a stream that colm does not have.
pub fn check_stream_options(options: &StreamOptions) -> Result<(), Refusal> {
    if options.include_obfuscation == Some(true) {
        let message = "streams are not obfuscated: leave include_obfuscation out";
        return Err(Refusal::unsupported("stream_options.include_obfuscation", message));
    }
    Ok(())
}

fn logprobs(asked: Option<bool>, top: Option<u32>) -> Result<Option<usize>, Refusal> {
    in_range("top_logprobs", top, 0..=MOST_TOP_LOGPROBS)?;
    match (asked, top) {
        (Some(true), top) => Ok(Some(top.unwrap_or(0) as usize)),
        (_, None | Some(0)) => Ok(None),
        (_, Some(_)) => {
            Err(Refusal::value("top_logprobs", "top_logprobs needs \"logprobs\": true"))
        }
    }
}

/// The effort that templates are shown.
pub fn reasoning_effort(effort: String) -> Result<ReasoningEffort, Refusal> {
    match effort.as_str() {
        "low" => Ok(ReasoningEffort::Low),
        "medium" => Ok(ReasoningEffort::Medium),
        "high" => Ok(ReasoningEffort::High),
        _ => Err(Refusal::value("reasoning_effort", "expected low, medium or high")),
    }
}

fn tools(
    tools: Option<Vec<ToolField>>,
    choice: Option<ToolChoiceField>,
    parallel: Option<bool>,
) -> Result<Tools, Refusal> {
    let tools = tools.unwrap_or_default();
    if let Some(index) = tools.iter().position(|tool| tool.kind != "function") {
        let message = "expected a tool of type function: colm has no tools of its own";
        return Err(Refusal::unsupported(format!("tools[{index}].type"), message));
    }
    let choice = match choice {
        None => None,
        Some(ToolChoiceField::Named(tool)) if tool.kind == "function" => {
            Some(Choice::Named(tool.function.name))
        }
        Some(ToolChoiceField::Mode(mode)) => Some(Choice::of_mode(&mode)?),
        Some(ToolChoiceField::Named(_)) => {
            let message = "expected a tool_choice of type function";
            return Err(Refusal::unsupported("tool_choice.type", message));
        }
    };
    Tools::new(tools.into_iter().map(|tool| tool.function).collect(), choice, parallel)
}

fn messages(messages: Vec<ChatMessage>) -> Result<Vec<TemplateMessage>, Refusal> {
    if messages.is_empty() {
        return Err(Refusal::value("messages", "expected at least one message"));
    }
    messages
        .into_iter()
        .enumerate()
        .map(|(index, message)| template_message(index, message))
        .collect()
}

/// The message as chat templates see it.
fn template_message(index: usize, message: ChatMessage) -> Result<TemplateMessage, Refusal> {
    let at = |field: &str| format!("messages[{index}].{field}");
    let role = match message.role.as_str() {
        // A newer name, which few templates know.
        "developer" => "system",
        role @ ("system" | "user" | "assistant" | "tool") => role,
        _ => {
            let message = "expected system, developer, user, assistant or tool";
            return Err(Refusal::value(at("role"), message));
        }
    };
    let others: Vec<(String, Value)> =
        message.others.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let calls =
        others.iter().any(|(field, value)| field == "tool_calls" && *value != Value::Array(vec![]));
    let content = match message.content {
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => joined(parts, &at("content"))?,
        None if calls => String::new(),
        None => {
            let message = format!("messages[{index}] has neither content nor tool_calls");
            return Err(Refusal::value(at("content"), message));
        }
    };
    let mut rendered = TemplateMessage::from([
        ("role".to_string(), Either::Left(role.to_string())),
        ("content".to_string(), Either::Left(content)),
    ]);
    for (field, value) in others {
        let shown = match (field.as_str(), value) {
            ("tool_calls", value) => tool_calls(value, &at("tool_calls"))?,
            (_, Value::String(text)) => Either::Left(text),
            (_, Value::Array(items)) if items.is_empty() => continue,
            (field, _) => {
                let field: String = field.chars().take(50).collect();
                let message =
                    format!("the field {field} of a message is not supported in this form");
                return Err(Refusal::unsupported(at(&field), message));
            }
        };
        rendered.insert(field, shown);
    }
    Ok(rendered)
}

/// The texts of `parts`, joined.
fn joined(parts: Vec<TextPart>, at: &str) -> Result<String, Refusal> {
    let texts = parts.into_iter().enumerate().map(|(index, part)| match part.text {
        Some(text) if part.kind == "text" && part.others.is_empty() => Ok(text),
        _ => {
            let kind: String = part.kind.chars().take(50).collect();
            let message = format!(
                "a part of type {kind}: expected {{\"type\": \"text\", \"text\": ..}}, and nothing else"
            );
            Err(Refusal::unsupported(format!("{at}[{index}]"), message))
        }
    });
    texts.collect()
}

/// The calls of an earlier answer.
fn tool_calls(
    calls: Value,
    at: &str,
) -> Result<Either<String, Vec<IndexMap<String, Value>>>, Refusal> {
    #[derive(Deserialize)]
    struct Call {
        id: Option<String>,
        function: Function,
    }
    #[derive(Deserialize)]
    struct Function {
        name: String,
        arguments: Value,
    }
    let calls: Vec<Call> = serde_json::from_value(calls).map_err(|error| {
        let message = format!(
            "expected [{{\"id\", \"type\", \"function\": {{\"name\", \"arguments\"}}}}]: {error}"
        );
        Refusal::value(at, message)
    })?;
    let call = |call: Call| template_call(call.id, call.function.name, call.function.arguments);
    Ok(Either::Right(calls.into_iter().map(call).collect()))
}

/// A call of an earlier answer as chat templates see it. They write arguments as JSON themselves: they get
/// the object.
pub fn template_call(
    id: Option<String>,
    name: String,
    arguments: Value,
) -> IndexMap<String, Value> {
    let arguments = match arguments {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        arguments => arguments,
    };
    let function = Map::from_iter([("name".into(), name.into()), ("arguments".into(), arguments)]);
    let mut shown = IndexMap::from([
        ("type".to_string(), Value::from("function")),
        ("function".to_string(), Value::Object(function)),
    ]);
    if let Some(id) = id {
        shown.insert("id".into(), id.into());
    }
    shown
}
