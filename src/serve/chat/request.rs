//! Validates a request of the chat endpoint.

use colm_prompt::Conversation;
use serde_json::Value;

use super::body::{ChatFields, ToolChoiceField, ToolField};
use super::messages::messages;
use super::template_variables::template_variables;
use crate::serve::answers::SourceFields;
use crate::serve::error::ApiError;
use crate::serve::fields::Fields;
use crate::serve::format::grammar;
use crate::serve::labels::Labels;
use crate::serve::limits::{RequestLimits, MAX_TOP_LOGPROBS};
use crate::serve::sampling::{in_range, SamplingFields, Stop};
use crate::serve::stream_options::StreamOptions;
use crate::serve::tools::{ToolChoice, Tools};
use crate::{ChainCount, Prompt, Request, SamplingDefaults};

/// A validated request of the chat endpoint.
pub struct Chat {
    pub request: Request,
    pub source_fields: SourceFields,
    pub choices: usize,
    pub tools: Tools,
    pub stream: bool,
    pub include_usage: bool,
}

impl Chat {
    /// Validates `fields` for an answer at `k` chains. `limits` are those of the server, `defaults` the
    /// model's sampling defaults.
    pub fn from_fields(
        fields: &mut Fields,
        k: ChainCount,
        limits: &RequestLimits,
        defaults: &SamplingDefaults,
    ) -> Result<Self, ApiError> {
        let chat: ChatFields = fields.take()?;
        let sampling: SamplingFields = fields.take()?;
        fields.take::<Labels>()?.check()?;
        let (max_tokens, max_tokens_field) = match (chat.max_tokens, chat.max_completion_tokens) {
            (tokens, Some(other)) if tokens.is_none_or(|tokens| other < tokens) => {
                (Some(other), "max_completion_tokens")
            }
            (tokens, _) => (tokens, "max_tokens"),
        };
        let choices = limits.check_choices("n", chat.n.unwrap_or(1), 1, max_tokens)?;
        let tools_json = fields.json("tools");
        let tools = tools(chat.tools, tools_json, chat.tool_choice, chat.parallel_tool_calls)?;
        let requested = grammar(chat.response_format, chat.grammar)?;
        let forced = tools.grammar().map(|grammar| ("tools", grammar));
        if requested.is_some() && forced.is_some() {
            let message =
                "a forced tool call excludes response_format and grammar: expected one of them";
            return Err(ApiError::invalid_value("tool_choice", message));
        }
        let conversation = Conversation {
            messages: messages(chat.messages)?,
            tools: tools.for_template(),
            variables: template_variables(
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
        let (field, grammar) = requested.or(forced).unzip();
        request.grammar = grammar;
        let source_fields = SourceFields {
            prompt: "messages",
            grammar: field,
            max_tokens: max_tokens_field,
            choices: "n",
        };
        request.logprobs = logprobs(chat.logprobs, chat.top_logprobs)?;
        request.shown_tokens = tools.shown_tokens();
        let stream = chat.stream.unwrap_or(false);
        let include_usage = StreamOptions::include_usage(chat.stream_options, stream)?;
        Ok(Self { request, source_fields, choices, tools, stream, include_usage })
    }
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

/// Validates the tools. The chat template gets the tools of the body unchanged: `json`.
fn tools(
    tools: Option<Vec<ToolField>>,
    json: Option<Value>,
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
    let template_tools = match json {
        Some(Value::Array(tools)) => tools,
        _ => Vec::new(),
    };
    Tools::new(
        tools.into_iter().map(|tool| tool.function).collect(),
        template_tools,
        choice,
        parallel,
    )
}
