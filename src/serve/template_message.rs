//! Messages as the input of chat templates.

use serde_json::{Map, Value};

/// A message: `role`, `content` and other fields that the template uses.
pub type TemplateMessage = Map<String, Value>;

/// A message whose content is a text or a list of parts.
pub fn template_message(role: &str, content: impl Into<Value>) -> TemplateMessage {
    TemplateMessage::from_iter([
        ("role".to_string(), Value::from(role)),
        ("content".to_string(), content.into()),
    ])
}

/// The role in the template: `developer` is the newer name of `system`, which templates expect.
pub fn template_role(role: &str) -> &str {
    match role {
        "developer" => "system",
        role => role,
    }
}

/// A tool call of an earlier answer, with `function.arguments` parsed from JSON text to an object: templates serialize
/// the arguments themselves.
pub fn with_parsed_arguments(mut call: Value) -> Value {
    if let Some(arguments) = call.pointer_mut("/function/arguments") {
        let parsed = arguments.as_str().and_then(|text| serde_json::from_str(text).ok());
        if let Some(Value::Object(object)) = parsed {
            *arguments = Value::Object(object);
        }
    }
    call
}
