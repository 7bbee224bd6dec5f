//! The grammar of a tool call.

use serde_json::{json, Value};

use super::Grammar;

/// The grammar of a call of one of `tools`, each a name and the schema of its arguments:
/// `{"name":"...","arguments":{...}}`, without whitespace. The schema null matches any object. Keywords that llguidance
/// does not support are ignored.
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

/// The schema of a tool's arguments, which must be an object, moved to the path `place` in another schema.
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

/// The keywords whose values are objects of named schemas.
const NAMED_SCHEMAS: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];

/// The schema with its internal references adjusted to the path `place` in another schema.
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
    fn a_call_of_any_tool_matches() {
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
    fn unsupported_keywords_are_ignored() {
        let schema = json!({"properties": {"a": {"type": "array", "uniqueItems": true}}, "if": {}});
        let call = compile(tool_call(&[("f".into(), schema)])).unwrap();
        assert!(matches(&call, r#"{"name":"f","arguments":{"a":[1,1]}}"#));
        assert!(compile(tool_call(&[])).is_err());
    }
}
