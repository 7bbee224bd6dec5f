//! Renders test conversations when a chat template is loaded, so that errors do not first appear in requests.

use serde_json::{json, Map, Value};

use super::conversation::Conversation;
use super::errors::RenderError;
use super::template::ChatTemplate;

/// Renders two test conversations with each template. The error is the name of a template and why it fails on both. An
/// error that a template raises itself is accepted, because a template may reject conversations.
pub(crate) fn try_render(template: &ChatTemplate) -> Result<(), (&'static str, String)> {
    try_conversations(template, None).map_err(|what| ("default", what))?;
    if template.has_tool_use() {
        let function = json!({
            "name": "get_weather", "description": "The weather in a place.",
            "parameters": {
                "type": "object", "properties": {"place": {"type": "string", "description": "A city."}},
                "required": ["place"],
            },
        });
        let tools = vec![json!({"type": "function", "function": function})];
        try_conversations(template, Some(tools)).map_err(|what| ("tool_use", what))?;
    }
    Ok(())
}

fn try_conversations(template: &ChatTemplate, tools: Option<Vec<Value>>) -> Result<(), String> {
    let user = json!({"role": "user", "content": "Hello"});
    let system = json!({"role": "system", "content": "Be brief."});
    let mut first = None;
    for messages in [vec![user.clone()], vec![system, user]] {
        let conversation = Conversation {
            messages: messages.into_iter().filter_map(message).collect(),
            tools: tools.clone(),
            add_generation_prompt: true,
            ..Conversation::default()
        };
        match template.render(&conversation) {
            Ok(text) if text.is_empty() => {
                return Err("the template writes nothing: expected a prompt for a message".into());
            }
            Ok(_) | Err(RenderError::Raised(_)) => return Ok(()),
            Err(RenderError::TooLong(what) | RenderError::LimitExceeded(what)) => return Err(what),
            Err(RenderError::Failed(what)) => first = first.or(Some(what)),
        }
    }
    match first {
        Some(what) => Err(format!("the template cannot be rendered: {what}")),
        None => Ok(()),
    }
}

/// Whether the template shows a content that is a list of text parts as their texts.
pub(crate) fn shows_parts(template: &ChatTemplate) -> bool {
    const TEXT: &str = "a text within a part";
    let content = json!([{"type": "text", "text": TEXT}]);
    let message = message(json!({"role": "user", "content": content}));
    let conversation = Conversation {
        messages: message.into_iter().collect(),
        add_generation_prompt: true,
        ..Conversation::default()
    };
    // Other templates fail, or write the list as Python does.
    let rendered = template.render(&conversation).ok();
    rendered.is_some_and(|text| text.contains(TEXT) && !text.contains(&format!("'{TEXT}'")))
}

fn message(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}
