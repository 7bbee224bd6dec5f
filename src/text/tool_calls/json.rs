//! Parses calls in JSON.

use serde::Deserialize;
use serde_json::value::RawValue;

/// A function call written by the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// The function's name.
    pub name: String,
    /// The arguments: a JSON object, as text.
    pub arguments: String,
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
}
