//! Tools: the functions that the model may call, and the calls in its answers.

use std::collections::HashSet;

use colm_checkpoint::abbreviate;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{json, Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::ApiError;
use crate::host::grammar::tool_call;
use crate::text::{Part, ToolCall, ToolParser, MARKERS};
use crate::{FinishReason, Grammar};

/// The most tools of a request.
const MAX_TOOLS: usize = 128;
/// The longest name of a function, in bytes.
const MAX_NAME_LENGTH: usize = 64;

/// A function that the model may call.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionTool {
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

impl FunctionTool {
    /// The tool in the format of OpenAI's chat endpoint, without omitted fields.
    pub fn as_json(&self) -> Value {
        let mut function = Map::from_iter([("name".to_string(), Value::from(self.name.as_str()))]);
        let optional = [
            ("description", self.description.clone().map(Value::from)),
            ("parameters", self.parameters.clone().map(Value::from)),
            ("strict", self.strict.map(Value::from)),
        ];
        for (field, value) in optional {
            function.extend(value.map(|value| (field.to_string(), value)));
        }
        json!({"type": "function", "function": function})
    }
}

/// Which functions the model may or must call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// No function.
    None,
    /// The model decides.
    Auto,
    /// At least one function.
    Required,
    /// This function.
    Named(String),
}

impl ToolChoice {
    /// Parses the string form of `tool_choice`.
    pub fn from_mode(mode: &str) -> Result<Self, ApiError> {
        match mode {
            "none" => Ok(Self::None),
            "auto" => Ok(Self::Auto),
            "required" => Ok(Self::Required),
            _ => Err(ApiError::invalid_value(
                "tool_choice",
                "tool_choice: expected none, auto or required",
            )),
        }
    }
}

/// The validated tools of a request.
#[derive(Clone, Debug)]
pub struct Tools {
    functions: Vec<FunctionTool>,
    /// The tools as the chat template gets them: `{"type": "function", "function": ..}`.
    template_tools: Vec<Value>,
    choice: ToolChoice,
    /// Whether an answer may contain several calls.
    parallel: bool,
}

impl Tools {
    /// Validates the names of the functions, their schemas and the choice. `template_tools` are the tools as the chat
    /// template gets them.
    pub fn new(
        functions: Vec<FunctionTool>,
        template_tools: Vec<Value>,
        choice: Option<ToolChoice>,
        parallel: Option<bool>,
    ) -> Result<Self, ApiError> {
        if functions.len() > MAX_TOOLS {
            let message = format!("{} tools: expected at most {MAX_TOOLS}", functions.len());
            return Err(ApiError::invalid_value("tools", message));
        }
        let mut names = HashSet::new();
        for (index, FunctionTool { name, parameters, .. }) in functions.iter().enumerate() {
            let is_name_char = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            if name.is_empty() || name.len() > MAX_NAME_LENGTH || !name.chars().all(is_name_char) {
                let message = format!(
                    "tools[{index}] has an invalid name: expected 1 to {MAX_NAME_LENGTH} letters, digits, _ and -"
                );
                return Err(ApiError::invalid_value("tools", message));
            }
            if !names.insert(name.as_str()) {
                return Err(ApiError::invalid_value(
                    "tools",
                    format!("two tools have the name {name}"),
                ));
            }
            let kind = parameters.as_ref().and_then(|parameters| parameters.get("type"));
            if let Some(kind) = kind.filter(|kind| *kind != "object") {
                let message = format!(
                    "the parameters of {name} are of type {}: expected \"object\"",
                    abbreviate(&kind.to_string())
                );
                return Err(ApiError::invalid_value("tools", message));
            }
        }
        let choice = match choice {
            Some(ToolChoice::Named(name)) if !names.contains(name.as_str()) => {
                let message = format!(
                    "tool_choice names {}: expected the name of one of the tools",
                    abbreviate(&name)
                );
                return Err(ApiError::invalid_value("tool_choice", message));
            }
            Some(ToolChoice::Required) if functions.is_empty() => {
                let message = "tool_choice requires a call, but there are no tools";
                return Err(ApiError::invalid_value("tool_choice", message));
            }
            choice => choice.unwrap_or(ToolChoice::Auto),
        };
        Ok(Self { functions, template_tools, choice, parallel: parallel.unwrap_or(true) })
    }

    /// The tools for the chat template. None if no function may be called.
    pub fn for_template(&self) -> Option<Vec<Value>> {
        let hidden = self.choice == ToolChoice::None || self.template_tools.is_empty();
        (!hidden).then(|| self.template_tools.clone())
    }

    /// The special tokens that become text: the markers of tool calls, if calls are allowed.
    pub fn shown_tokens(&self) -> &'static [&'static str] {
        if self.functions.is_empty() || self.choice == ToolChoice::None {
            &[]
        } else {
            &MARKERS
        }
    }

    /// The grammar of a forced call. None if no call is forced.
    pub fn grammar(&self) -> Option<Grammar> {
        let forced: Vec<&FunctionTool> = match &self.choice {
            ToolChoice::None | ToolChoice::Auto => return None,
            ToolChoice::Required => self.functions.iter().collect(),
            ToolChoice::Named(name) => {
                self.functions.iter().filter(|one| one.name == *name).collect()
            }
        };
        let schema = |one: &FunctionTool| {
            let parameters = one.parameters.clone().unwrap_or_default();
            (one.name.clone(), Value::Object(parameters))
        };
        Some(tool_call(&forced.into_iter().map(schema).collect::<Vec<_>>()))
    }

    /// Fails if a call is forced and there are stop strings.
    pub fn check_stop(&self, stop: &[String]) -> Result<(), ApiError> {
        if !stop.is_empty() && matches!(self.choice, ToolChoice::Required | ToolChoice::Named(_)) {
            let message = "stop: expected no stop strings, a forced tool call ends with the call";
            return Err(ApiError::invalid_value("stop", message));
        }
        Ok(())
    }

    /// A parser of the calls in an answer.
    pub fn finder(&self) -> CallFinder {
        match self.choice {
            ToolChoice::None => CallFinder::Off,
            ToolChoice::Auto if self.functions.is_empty() => CallFinder::Off,
            ToolChoice::Auto => {
                let names = self.functions.iter().map(|function| function.name.clone()).collect();
                let max_calls = if self.parallel { usize::MAX } else { 1 };
                CallFinder::InText(ToolParser::new(names, max_calls))
            }
            ToolChoice::Required | ToolChoice::Named(_) => CallFinder::Forced(String::new()),
        }
    }

    /// Whether a named function is forced. OpenAI then reports the finish reason `stop`, not `tool_calls`.
    pub fn is_named(&self) -> bool {
        matches!(self.choice, ToolChoice::Named(_))
    }
}

/// Finds the calls in an answer.
pub enum CallFinder {
    /// There are no calls.
    Off,
    /// Calls are mixed with text, in the formats of the models.
    InText(ToolParser),
    /// The answer is one call, which matches the grammar. Contains the text so far.
    Forced(String),
}

impl CallFinder {
    /// Adds text and returns the parts that are now complete.
    pub fn push(&mut self, text: String) -> Vec<Part> {
        match self {
            Self::Off => vec![Part::Text(text)],
            Self::InText(parser) => parser.push(&text),
            Self::Forced(so_far) => {
                so_far.push_str(&text);
                Vec::new()
            }
        }
    }

    /// Ends the answer and returns the remaining parts.
    pub fn finish(&mut self, reason: FinishReason) -> Vec<Part> {
        match self {
            Self::Off => Vec::new(),
            Self::InText(parser) => parser.finish(),
            Self::Forced(text) => match forced_call(text, reason) {
                Some(call) => vec![Part::Call(call)],
                None => Vec::new(),
            },
        }
    }

    /// Whether all calls that the request allows have been found.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::InText(parser) if parser.is_full())
    }
}

/// Parses a forced call. If the answer was cut off at its maximum length, so are the arguments.
fn forced_call(text: &str, reason: FinishReason) -> Option<ToolCall> {
    #[derive(Deserialize)]
    struct Call<'a> {
        name: String,
        #[serde(borrow)]
        arguments: &'a RawValue,
    }
    if let Ok(Call { name, arguments }) = serde_json::from_str(text) {
        return Some(ToolCall { name, arguments: arguments.get().into() });
    }
    if reason != FinishReason::Length {
        return None;
    }
    // The grammar of forced calls allows only this form, without whitespace.
    let (name, arguments) = text.strip_prefix("{\"name\":\"")?.split_once("\",\"arguments\":")?;
    Some(ToolCall { name: name.into(), arguments: arguments.into() })
}

/// A call in an answer, in the format of OpenAI's chat endpoint.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FunctionCall {
    /// The index of the call in the answer. In streams only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    pub id: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub function: CalledFunction,
}

/// A function and its arguments.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CalledFunction {
    pub name: String,
    /// The arguments as JSON text.
    pub arguments: String,
}

impl FunctionCall {
    /// `call` with a new id.
    pub fn new(call: ToolCall) -> Self {
        let ToolCall { name, arguments } = call;
        Self {
            index: None,
            id: format!("call_{}", Uuid::new_v4().simple()),
            kind: "function",
            function: CalledFunction { name, arguments },
        }
    }
}
