//! The messages of a chat, as the chat template gets them.

use colm_checkpoint::abbreviate;
use serde::Deserialize;
use serde_json::{json, Value};

use super::body::{ChatMessage, Content, TextPart};
use crate::serve::error::ApiError;
use crate::serve::template_message::{
    template_message, template_role, with_parsed_arguments, TemplateMessage,
};

/// Converts `messages` for the chat template.
pub fn messages(messages: Vec<ChatMessage>) -> Result<Vec<TemplateMessage>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid_value("messages", "messages: expected at least one message"));
    }
    messages.into_iter().enumerate().map(|(index, message)| chat_message(index, message)).collect()
}

/// The message as the chat template gets it.
fn chat_message(index: usize, message: ChatMessage) -> Result<TemplateMessage, ApiError> {
    let path_of = |field: &str| format!("messages[{index}].{field}");
    let role = message.role.as_str();
    if !["system", "developer", "user", "assistant", "tool"].contains(&role) {
        let message = "role: expected system, developer, user, assistant or tool";
        return Err(ApiError::invalid_value(path_of("role"), message));
    }
    let content = match message.content {
        Some(Content::Text(text)) => Value::from(text),
        Some(Content::Parts(parts)) => text_parts(parts, &path_of("content"))?,
        None => Value::Null,
    };
    let mut converted = template_message(template_role(role), content);
    for (field, value) in message.extra {
        let value = match field.as_str() {
            "tool_calls" if !value.is_null() => tool_calls(value, &path_of("tool_calls"))?,
            _ => value,
        };
        converted.insert(field, value);
    }
    let no_calls = |field: &str, value: &Value| {
        field == "tool_calls" && value.as_array().is_some_and(Vec::is_empty)
    };
    converted.retain(|field, value| !value.is_null() && !no_calls(field, value));
    if !converted.contains_key("content") && !converted.contains_key("tool_calls") {
        let message = format!("messages[{index}] has no content: expected content or tool_calls");
        return Err(ApiError::invalid_value(path_of("content"), message));
    }
    Ok(converted)
}

/// Converts text parts. `path` is their path in the body. Fails if a part is not a text.
fn text_parts(parts: Vec<TextPart>, path: &str) -> Result<Value, ApiError> {
    let texts = parts.into_iter().enumerate().map(|(index, part)| match part.text {
        Some(text) if part.kind == "text" && part.extra.is_empty() => {
            Ok(json!({"type": "text", "text": text}))
        }
        _ => {
            let message = format!(
                "a part of type {}: expected only {{\"type\": \"text\", \"text\": ..}}",
                abbreviate(&part.kind)
            );
            Err(ApiError::unsupported(format!("{path}[{index}]"), message))
        }
    });
    texts.collect()
}

/// Validates the tool calls of an earlier answer.
fn tool_calls(calls: Value, path: &str) -> Result<Value, ApiError> {
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only its types are checked")]
    struct Call {
        id: Option<String>,
        function: Function,
    }
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only its types are checked")]
    struct Function {
        name: String,
        arguments: Value,
    }
    Vec::<Call>::deserialize(&calls).map_err(|error| {
        let message = format!(
            "expected [{{\"id\", \"type\", \"function\": {{\"name\", \"arguments\"}}}}]: {error}"
        );
        ApiError::invalid_value(path, message)
    })?;
    let calls = calls.as_array().cloned().unwrap_or_default();
    Ok(calls.into_iter().map(with_parsed_arguments).collect())
}
