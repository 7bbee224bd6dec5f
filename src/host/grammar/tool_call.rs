//! The grammar of a tool call.

use serde_json::{json, Value};

use super::Grammar;

/// A call of one of these tools, each given as name and schema of its arguments:
/// `{"name":"...","arguments":{...}}`, without whitespace. A schema of null stands for any object. What llguidance
/// does not support in a schema is left out.
pub fn tool_call(tools: &[(String, Value)]) -> Grammar {
    let calls = tools.iter().enumerate().map(|(at, (name, schema))| {
        let place = format!("#/anyOf/{at}/properties/arguments");
        json!({
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": arguments(schema, &place)},
            "required": ["name", "arguments"],
            "additionalProperties": false,
        })
    });
    let calls: Vec<Value> = calls.collect();
    let options = json!({"whitespace_flexible": false, "lenient": true});
    Grammar::JsonSchema(json!({"x-guidance": options, "anyOf": calls}))
}

/// The schema of a tool's arguments, an object, moved to a place in another schema.
fn arguments(schema: &Value, place: &str) -> Value {
    match moved(schema, place) {
        Value::Null => json!({"type": "object"}),
        Value::Object(mut keywords) => {
            let kinds = ["type", "$ref", "allOf", "anyOf", "oneOf"];
            if !kinds.iter().any(|&kind| keywords.contains_key(kind)) {
                keywords.insert("type".into(), json!("object"));
            }
            Value::Object(keywords)
        }
        schema => schema,
    }
}

/// The keywords whose values are schemas by names of their own.
const NAMED_SCHEMAS: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];

/// A schema whose references to itself lead to a place in another.
fn moved(schema: &Value, place: &str) -> Value {
    match schema {
        Value::Array(items) => items.iter().map(|item| moved(item, place)).collect(),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| {
                if let (true, Value::Object(named)) = (NAMED_SCHEMAS.contains(&key.as_str()), value)
                {
                    let named = named.iter().map(|(name, one)| (name.clone(), moved(one, place)));
                    return (key.clone(), named.collect());
                }
                let value = match (key.as_str(), value.as_str().and_then(|to| to.strip_prefix('#')))
                {
                    ("$ref", Some(path)) => json!(format!("{place}{}", path.trim_end_matches('/'))),
                    ("const" | "enum" | "default" | "examples", _) => value.clone(),
                    _ => moved(value, place),
                };
                (key.clone(), value)
            });
            entries.collect()
        }
        _ => schema.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::attacks::{compile, matches};
    use super::*;

    #[test]
    fn the_call_of_any_of_the_tools_matches() {
        let place = json!({
            "$defs": {"city": {"type": "string", "minLength": 2}},
            "properties": {
                "city": {"$ref": "#/$defs/city"},
                "near": {"$ref": "#"},
                // Named like a keyword.
                "default": {"$ref": "#/$defs/city"},
            },
            "required": ["city"],
            "additionalProperties": false,
        });
        let tools = [("weather".into(), place), ("now".into(), Value::Null)];
        let call = compile(tool_call(&tools)).unwrap();
        for text in [
            r#"{"name":"weather","arguments":{"city":"Bonn"}}"#,
            r#"{"name":"weather","arguments":{"city":"Bonn","near":{"city":"Ulm"}}}"#,
            r#"{"name":"weather","arguments":{"city":"Bonn","default":"Ulm"}}"#,
            r#"{"name":"now","arguments":{}}"#,
            r#"{"name":"now","arguments":{"any":["thing"]}}"#,
        ] {
            assert!(matches(&call, text), "{text}");
            let parsed: Value = serde_json::from_str(text).unwrap();
            assert!(parsed["arguments"].is_object());
        }
        for text in [
            r#"{"name": "now","arguments":{}}"#,
            r#"{"name":"now","arguments":[]}"#,
            r#"{"name":"later","arguments":{}}"#,
            r#"{"name":"weather","arguments":{}}"#,
            r#"{"name":"weather","arguments":{"city":"B"}}"#,
            r#"{"name":"weather","arguments":{"city":"Bonn","near":{"city":"U"}}}"#,
            r#"{"arguments":{},"name":"now"}"#,
        ] {
            assert!(!matches(&call, text), "{text}");
        }
    }

    #[test]
    fn what_is_not_supported_in_a_schema_is_left_out() {
        let schema = json!({"properties": {"a": {"type": "array", "uniqueItems": true}}, "if": {}});
        let call = compile(tool_call(&[("f".into(), schema)])).unwrap();
        assert!(matches(&call, r#"{"name":"f","arguments":{"a":[1,1]}}"#));
        assert!(compile(tool_call(&[])).is_err());
    }
}
