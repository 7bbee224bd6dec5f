//! Functions that the model may call, and the calls in its answers.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{json, Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::ApiError;
use crate::host::grammar::tool_call;
use crate::text::{Part, ToolCall, ToolParser, MARKERS};
use crate::{FinishReason, Grammar};

const MAX_TOOLS: usize = 128;
const MAX_NAME_LENGTH: usize = 64;

/// A function that the model may call.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionTool {
    /// Letters, digits, `_` and `-`.
    #[schema(max_length = 64)]
    pub name: String,
    pub description: Option<String>,
    /// A JSON schema.
    #[schema(value_type = Option<Object>)]
    pub parameters: Option<Map<String, Value>>,
    /// Arguments of a forced call always match the schema.
    pub strict: Option<bool>,
}

impl FunctionTool {
    /// As OpenAI's chat writes it, without what is left out.
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

/// Which functions are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// None.
    None,
    /// Those the model calls by itself.
    Auto,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

impl ToolChoice {
    /// What `tool_choice` says in one word.
    pub fn from_mode(mode: &str) -> Result<Self, ApiError> {
        match mode {
            "none" => Ok(Self::None),
            "auto" => Ok(Self::Auto),
            "required" => Ok(Self::Required),
            _ => Err(ApiError::invalid_value("tool_choice", "expected none, auto or required")),
        }
    }
}

/// The functions of a request, checked.
#[derive(Clone, Debug)]
pub struct Tools {
    functions: Vec<FunctionTool>,
    /// The same as templates see them: `{"type": "function", "function": ..}`.
    shown: Vec<Value>,
    choice: ToolChoice,
    /// Whether one answer may hold several calls.
    parallel: bool,
}

impl Tools {
    /// Refuses names that are no names and choices that cannot be met. `shown` are the functions as templates see
    /// them.
    pub fn new(
        functions: Vec<FunctionTool>,
        shown: Vec<Value>,
        choice: Option<ToolChoice>,
        parallel: Option<bool>,
    ) -> Result<Self, ApiError> {
        if functions.len() > MAX_TOOLS {
            let message = format!("{} tools: expected at most {MAX_TOOLS}", functions.len());
            return Err(ApiError::invalid_value("tools", message));
        }
        let mut names = HashSet::new();
        for (index, FunctionTool { name, parameters, .. }) in functions.iter().enumerate() {
            let of_a_name = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            if name.is_empty() || name.len() > MAX_NAME_LENGTH || !name.chars().all(of_a_name) {
                let message = format!(
                    "tools[{index}] has a name that is not 1 to {MAX_NAME_LENGTH} letters, digits, _ and -"
                );
                return Err(ApiError::invalid_value("tools", message));
            }
            if !names.insert(name.as_str()) {
                return Err(ApiError::invalid_value(
                    "tools",
                    format!("two tools are called {name}"),
                ));
            }
            let kind = parameters.as_ref().and_then(|parameters| parameters.get("type"));
            if let Some(kind) = kind.filter(|kind| *kind != "object") {
                let kind: String = kind.to_string().chars().take(MAX_NAME_LENGTH).collect();
                let message =
                    format!("the parameters of {name} are of type {kind}: expected \"object\"");
                return Err(ApiError::invalid_value("tools", message));
            }
        }
        let choice = match choice {
            Some(ToolChoice::Named(name)) if !names.contains(name.as_str()) => {
                let name: String = name.chars().take(MAX_NAME_LENGTH).collect();
                let message = format!("tool_choice names {name}, which is not among the tools");
                return Err(ApiError::invalid_value("tool_choice", message));
            }
            Some(ToolChoice::Required) if functions.is_empty() => {
                let message = "tool_choice requires a call, and there are no tools";
                return Err(ApiError::invalid_value("tool_choice", message));
            }
            choice => choice.unwrap_or(ToolChoice::Auto),
        };
        Ok(Self { functions, shown, choice, parallel: parallel.unwrap_or(true) })
    }

    /// What the chat template shows of them: nothing where none may be called.
    pub fn for_template(&self) -> Option<Vec<Value>> {
        let hidden = self.choice == ToolChoice::None || self.shown.is_empty();
        (!hidden).then(|| self.shown.clone())
    }

    /// The special tokens that an answer shows: the markers of calls, where there may be some.
    pub fn shown_tokens(&self) -> &'static [&'static str] {
        if self.functions.is_empty() || self.choice == ToolChoice::None {
            &[]
        } else {
            &MARKERS
        }
    }

    /// What an answer must match where a call is forced.
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

    /// Refuses stop strings where a call is forced: its end is the call's.
    pub fn check_stop(&self, stop: &[String]) -> Result<(), ApiError> {
        if !stop.is_empty() && matches!(self.choice, ToolChoice::Required | ToolChoice::Named(_)) {
            let message = "a forced tool call ends where the call does: leave stop out";
            return Err(ApiError::invalid_value("stop", message));
        }
        Ok(())
    }

    /// Looks for calls in an answer.
    pub fn finder(&self) -> CallFinder {
        match self.choice {
            ToolChoice::None => CallFinder::Off,
            ToolChoice::Auto if self.functions.is_empty() => CallFinder::Off,
            ToolChoice::Auto => {
                let names = self.functions.iter().map(|function| function.name.clone()).collect();
                let most = if self.parallel { usize::MAX } else { 1 };
                CallFinder::InText(ToolParser::new(names, most))
            }
            ToolChoice::Required | ToolChoice::Named(_) => CallFinder::Forced(String::new()),
        }
    }

    /// Whether the answer is one call of one function, as OpenAI counts it: then it ends with `stop`.
    pub fn is_named(&self) -> bool {
        matches!(self.choice, ToolChoice::Named(_))
    }
}

/// Finds the calls in one answer.
pub enum CallFinder {
    /// All is text.
    Off,
    /// Calls stand between text, in the ways models write them.
    InText(ToolParser),
    /// The answer is one call, by its grammar; its text so far.
    Forced(String),
}

impl CallFinder {
    /// What is certain with `text`.
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

    /// What is left at the end.
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

    /// Whether all calls that the request takes have come.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::InText(parser) if parser.is_full())
    }
}

/// The call in `text`, whose arguments may be cut off where the answer was.
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
    // As the grammar of forced calls has it.
    let (name, arguments) = text.strip_prefix("{\"name\":\"")?.split_once("\",\"arguments\":")?;
    Some(ToolCall { name: name.into(), arguments: arguments.into() })
}

/// A call in an answer, as OpenAI's chat writes it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FunctionCall {
    /// Of the call in its answer; in streams only.
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
    /// JSON.
    pub arguments: String,
}

impl FunctionCall {
    /// `call` with an id of its own.
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
