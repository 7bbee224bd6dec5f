//! Messages as chat templates see them.

use serde_json::{Map, Value};

/// A message: `role`, `content` and whatever else the template shows.
pub type TemplateMessage = Map<String, Value>;

/// A message with a text or parts.
pub fn template_message(role: &str, content: impl Into<Value>) -> TemplateMessage {
    TemplateMessage::from_iter([
        ("role".to_string(), Value::from(role)),
        ("content".to_string(), content.into()),
    ])
}

/// Templates know the role of a developer under its older name.
pub fn template_role(role: &str) -> &str {
    match role {
        "developer" => "system",
        role => role,
    }
}

/// A call of an earlier answer. Templates write arguments as JSON themselves: they get the object that the text of
/// `function.arguments` is.
pub fn with_parsed_arguments(mut call: Value) -> Value {
    if let Some(arguments) = call.pointer_mut("/function/arguments") {
        let parsed = arguments.as_str().and_then(|text| serde_json::from_str(text).ok());
        if let Some(Value::Object(object)) = parsed {
            *arguments = Value::Object(object);
        }
    }
    call
}
