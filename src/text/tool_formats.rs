//! The formats in which models write tool calls.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Markers that are special tokens in many tokenizers. The parser expects them as text.
pub const MARKERS: [&str; 4] = [HERMES, HERMES_END, MISTRAL, PYTHON];

pub(super) const HERMES: &str = "<tool_call>";
pub(super) const HERMES_END: &str = "</tool_call>";
pub(super) const MISTRAL: &str = "[TOOL_CALLS]";
pub(super) const MISTRAL_ARGUMENTS: &str = "[ARGS]";
pub(super) const PYTHON: &str = "<|python_tag|>";

/// The markers that start a call.
pub(super) const OPENING: [(&str, Format); 3] =
    [(HERMES, Format::Hermes), (MISTRAL, Format::Mistral), (PYTHON, Format::Python)];

/// A format of calls.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    /// `<tool_call>{..}</tool_call>`
    Hermes,
    /// `[TOOL_CALLS][{..}, ..]` or `[TOOL_CALLS]name{..}` or `[TOOL_CALLS]name[ARGS]{..}`
    Mistral,
    /// `<|python_tag|>{..}; ..`
    Python,
    /// `{..}; ..` as the whole answer.
    Bare,
}

/// A function call written by the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// The function's name.
    pub name: String,
    /// The arguments: a JSON object, as text.
    pub arguments: String,
}

/// An incomplete JSON object or array.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    /// The position at which it begins in the text.
    pub(super) start: usize,
    /// The number of open braces and brackets.
    depth: usize,
    in_string: bool,
    after_backslash: bool,
}

/// The state of a value after a character.
#[derive(Debug)]
pub(super) enum Progress {
    Incomplete,
    Complete,
    Malformed,
}

impl Value {
    /// A value that begins at `start`, where its opening bracket has been read.
    pub(super) fn new(start: usize) -> Self {
        Self { start, depth: 1, in_string: false, after_backslash: false }
    }

    /// Adds a character. Detects the end of the value, and errors that show in a single character.
    pub(super) fn add(&mut self, character: char) -> Progress {
        match character {
            '\0'..' ' if self.in_string => return Progress::Malformed,
            _ if self.after_backslash => self.after_backslash = false,
            '\\' if self.in_string => self.after_backslash = true,
            '"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            '{' | '[' => self.depth += 1,
            '}' | ']' => self.depth -= 1,
            ' ' | '\t' | '\r' | '\n' | ':' | ',' | '0'..='9' | '+' | '-' | '.' | 'E' => {}
            // The letters of true, false and null.
            'a' | 'e' | 'f' | 'l' | 'n' | 'r' | 's' | 't' | 'u' => {}
            _ => return Progress::Malformed,
        }
        match self.depth {
            0 => Progress::Complete,
            _ => Progress::Incomplete,
        }
    }
}

/// A call in JSON. Unknown keys are ignored.
#[derive(Deserialize)]
struct WrittenCall<'a> {
    name: Option<String>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    function: Option<&'a RawValue>,
}

/// Parses a JSON call, or an array of calls.
pub(super) fn calls(json: &str) -> Option<Vec<ToolCall>> {
    if !json.starts_with('[') {
        return Some(vec![call(json)?]);
    }
    let values: Vec<&RawValue> = serde_json::from_str(json).ok()?;
    values.into_iter().map(|value| call(value.get())).collect()
}

fn call(json: &str) -> Option<ToolCall> {
    let outer = written_call(json)?;
    let written = match outer.function {
        Some(function) if outer.name.is_none() => written_call(function.get())?,
        _ => outer,
    };
    let arguments = object(written.arguments.or(written.parameters)?.get())?;
    Some(ToolCall { name: written.name?, arguments })
}

fn written_call(json: &str) -> Option<WrittenCall<'_>> {
    // serde would read an array as the fields in order.
    json.starts_with('{').then(|| serde_json::from_str(json).ok())?
}

/// The JSON text of an object, which is either `json` itself or the content of the JSON string `json`.
pub(super) fn object(json: &str) -> Option<String> {
    let text: Option<String> = serde_json::from_str(json).ok();
    let value: &RawValue = serde_json::from_str(text.as_deref().unwrap_or(json)).ok()?;
    value.get().starts_with('{').then(|| value.get().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call_of(name: &str, arguments: &str) -> Option<Vec<ToolCall>> {
        Some(vec![ToolCall { name: name.into(), arguments: arguments.into() }])
    }

    #[test]
    fn a_call_is_an_object_with_a_name_and_arguments() {
        for json in [
            r#"{"name":"f","arguments":{"b":1.50,"a":1e2}}"#,
            r#"{ "parameters" : {"b":1.50,"a":1e2} , "name" : "f" }"#,
            r#"{"type":"function","name":"f","parameters":{"b":1.50,"a":1e2},"id":[{}]}"#,
            r#"{"type":"function","function":{"name":"f","arguments":{"b":1.50,"a":1e2}}}"#,
            r#"{"id":7,"function":{"name":"f","parameters":{"b":1.50,"a":1e2},"x":null}}"#,
            r#"{"name":"f","arguments":" {\"b\":1.50,\"a\":1e2}\n"}"#,
            r#"[{"name":"\u0066","function":"g","arguments":{"b":1.50,"a":1e2}}]"#,
        ] {
            assert_eq!(calls(json), call_of("f", r#"{"b":1.50,"a":1e2}"#), "{json}");
        }
        let two = r#"[{"name":"f","arguments":{ }} , {"name":"g","arguments":"{}"}]"#;
        let found = [call_of("f", "{ }"), call_of("g", "{}")].into_iter().flatten().flatten();
        assert_eq!(calls(two), Some(found.collect()));
        assert_eq!(calls("[]"), Some(vec![]));
    }

    #[test]
    fn other_json_is_not_a_call() {
        for json in [
            r#"{}"#,
            r#"{"name":"f"}"#,
            r#"{"name":"f","arguments":null}"#,
            r#"{"name":"f","arguments":[1]}"#,
            r#"{"name":"f","arguments":"1"}"#,
            r#"{"name":"f","arguments":"{"}"#,
            r#"{"name":"f","arguments":"\"{}\""}"#,
            r#"{"name":"f","arguments":{}"#,
            r#"{"name":"f","arguments":{"a":01}}"#,
            r#"{"name":"f","name":"g","arguments":{}}"#,
            r#"{"name":1,"arguments":{}}"#,
            r#"{"function":{"function":{"name":"f","arguments":{}}}}"#,
            r#"[{"name":"f","arguments":{}},1]"#,
            r#"[["f",{}]]"#,
        ] {
            assert_eq!(calls(json), None, "{json}");
        }
    }

    #[test]
    fn the_end_of_a_value_is_not_in_its_strings() {
        for json in [r#"{}"#, r#"[{"a":[1,{}]}]"#, r#"{"}":"\"}\\","é":"]🦊"}"#] {
            let mut value = Value::new(0);
            let progress: Vec<Progress> = json.chars().skip(1).map(|c| value.add(c)).collect();
            let complete = progress.iter().position(|it| matches!(it, Progress::Complete));
            assert_eq!(complete, Some(progress.len() - 1), "{json}");
        }
    }
}
