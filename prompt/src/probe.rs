//! Whether a chat template works: a rendering while the model is loaded, instead of a failure at every request.

use serde_json::{json, Map, Value};

use crate::chat_template::{ChatTemplate, Conversation, RenderError};

/// Refuses a template that can render neither of the plainest conversations. Templates may refuse conversations
/// themselves, so an error that the template raises is not a fault of it.
pub fn probe(template: &ChatTemplate) -> Result<(), String> {
    let user = json!({"role": "user", "content": "Hello"});
    let conversations =
        [vec![user.clone()], vec![json!({"role": "system", "content": "Be brief."}), user]];
    let mut first = None;
    for messages in conversations {
        let conversation = Conversation {
            messages: messages.into_iter().filter_map(message).collect(),
            add_generation_prompt: true,
            ..Conversation::default()
        };
        match template.render(&conversation) {
            Ok(text) if text.is_empty() => {
                return Err("the template writes nothing: expected a prompt for a message".into());
            }
            Ok(_) | Err(RenderError::Raised(_)) => return Ok(()),
            Err(RenderError::TooMuch(what)) => return Err(what),
            Err(RenderError::Failed(what)) => first = first.or(Some(what)),
        }
    }
    match first {
        Some(what) => Err(format!("the template cannot be rendered: {what}")),
        None => Ok(()),
    }
}

/// Whether the template shows the parts of a content: text parts as their texts.
pub fn shows_parts(template: &ChatTemplate) -> bool {
    const TEXT: &str = "a text within a part";
    let rendered = |content: Value| {
        let message = message(json!({"role": "user", "content": content}));
        let conversation = Conversation {
            messages: message.into_iter().collect(),
            add_generation_prompt: true,
            ..Conversation::default()
        };
        template.render(&conversation).ok()
    };
    let parts = rendered(json!([{"type": "text", "text": TEXT}]));
    // Others print the list as Python writes it.
    parts.is_some_and(|parts| parts.contains(TEXT) && !parts.contains(&format!("'{TEXT}'")))
}

fn message(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}
