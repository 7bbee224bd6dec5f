//! The field `input`: a text or the items of a conversation.

use serde::de::IgnoredAny;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{json, Value};
use utoipa::ToSchema;

use super::nested::{object, Kind, TextOrList};
use crate::serve::error::ApiError;
use crate::serve::fields::Fields;
use crate::serve::template_message::{
    template_message, template_role, with_parsed_arguments, TemplateMessage,
};

/// A message of the user, or a conversation.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the field")]
pub enum InputField {
    Text(String),
    Items(Vec<InputItem>),
}

/// An item of a conversation. An item without a type is a message. The items of an answer may be sent back unchanged.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(dead_code, reason = "describes the field")]
pub enum InputItem {
    Message(InputMessage),
    FunctionCall(InputCall),
    FunctionCallOutput(InputCallOutput),
}

/// A message.
#[derive(Debug, Deserialize, ToSchema)]
pub struct InputMessage {
    /// `system`, `developer` (a synonym of `system`), `user` or `assistant`.
    role: String,
    #[schema(value_type = InputContent)]
    content: Box<RawValue>,
}

/// A function call of an earlier answer.
#[derive(Debug, Deserialize, ToSchema)]
pub struct InputCall {
    call_id: String,
    name: String,
    /// The arguments as JSON text.
    arguments: String,
}

/// The result of a function call.
#[derive(Debug, Deserialize, ToSchema)]
pub struct InputCallOutput {
    /// The `call_id` of the call.
    call_id: String,
    #[schema(value_type = InputContent)]
    output: Box<RawValue>,
}

/// Further fields of output items. They have no effect.
#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "its types are checked")]
struct ItemLabels {
    id: Option<String>,
    status: Option<String>,
}

/// A text, or a list of text parts. Parts are joined by newlines if the chat template supports only texts.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the field")]
pub enum InputContent {
    Text(String),
    Parts(Vec<InputPart>),
}

/// A part of a message.
#[derive(Deserialize, ToSchema)]
pub struct InputPart {
    /// `input_text`, `output_text` or `text`.
    #[serde(rename = "type")]
    #[allow(dead_code, reason = "describes the field")]
    kind: String,
    text: String,
    /// Only `[]`.
    #[schema(value_type = Option<Vec<Object>>)]
    annotations: Option<Vec<IgnoredAny>>,
    /// Has no effect: output parts may be sent back unchanged.
    #[schema(value_type = Option<Vec<Object>>)]
    #[allow(dead_code, reason = "its type is checked")]
    logprobs: Option<Vec<IgnoredAny>>,
}

/// Converts `input` to messages for the chat template, after a system message with the `instructions`.
pub fn messages(
    instructions: Option<&str>,
    input: &RawValue,
) -> Result<Vec<TemplateMessage>, ApiError> {
    let instructions = instructions.map(|text| template_message("system", text));
    let mut messages = Vec::from_iter(instructions);
    match TextOrList::parse(input, "input")? {
        TextOrList::Text(text) => messages.push(template_message("user", text)),
        TextOrList::List(items) if items.is_empty() => {
            return Err(ApiError::invalid_value("input", "input: expected at least one item"));
        }
        TextOrList::List(items) => {
            for (index, value) in items.into_iter().enumerate() {
                match object(value, &format!("input[{index}]"), item)? {
                    Item::Message(message) => messages.push(message),
                    Item::Call(call) => add_call(&mut messages, call),
                }
            }
        }
    }
    Ok(messages)
}

/// An item, converted for the chat template.
enum Item {
    Message(TemplateMessage),
    Call(Value),
}

/// Converts an item.
fn item(kind: Kind, fields: &mut Fields) -> Result<Item, ApiError> {
    fields.take::<ItemLabels>()?;
    match kind.kind.as_deref() {
        None | Some("message") => message(&fields.take()?).map(Item::Message),
        Some("function_call") => {
            let InputCall { call_id, name, arguments } = fields.take()?;
            let function = json!({"name": name, "arguments": arguments});
            let call = json!({"id": call_id, "type": "function", "function": function});
            Ok(Item::Call(with_parsed_arguments(call)))
        }
        Some("function_call_output") => {
            let InputCallOutput { call_id, output } = fields.take()?;
            let mut message = template_message("tool", content(&output, "output")?);
            message.insert("tool_call_id".into(), call_id.into());
            Ok(Item::Message(message))
        }
        Some(_) => {
            let expected = "expected message, function_call or function_call_output";
            let message = format!("an item of type {}: {expected}", kind.type_name());
            Err(ApiError::unsupported("type", message))
        }
    }
}

fn message(message: &InputMessage) -> Result<TemplateMessage, ApiError> {
    let role = message.role.as_str();
    if !["system", "developer", "user", "assistant"].contains(&role) {
        return Err(ApiError::invalid_value(
            "role",
            "role: expected system, developer, user or assistant",
        ));
    }
    Ok(template_message(template_role(role), content(&message.content, "content")?))
}

/// Converts a text or a list of parts. `path` is its path in the body.
fn content(content: &RawValue, path: &str) -> Result<Value, ApiError> {
    match TextOrList::parse(content, path)? {
        TextOrList::Text(text) => Ok(text.into()),
        TextOrList::List(parts) => {
            let parts = parts.into_iter().enumerate();
            parts.map(|(index, value)| object(value, &format!("{path}[{index}]"), part)).collect()
        }
    }
}

/// Converts a part.
fn part(kind: Kind, fields: &mut Fields) -> Result<Value, ApiError> {
    if !matches!(kind.kind.as_deref(), Some("input_text" | "output_text" | "text")) {
        let kind = kind.type_name();
        let message = format!("a part of type {kind}: expected input_text, output_text or text");
        return Err(ApiError::unsupported("type", message));
    }
    let part: InputPart = fields.take()?;
    if part.annotations.is_some_and(|annotations| !annotations.is_empty()) {
        return Err(ApiError::unsupported(
            "annotations",
            "annotations: expected [], the model does not get them",
        ));
    }
    Ok(json!({"type": "text", "text": part.text}))
}

/// Adds a call to the last message if the assistant wrote it, because an answer is one message. Otherwise adds a new
/// message.
fn add_call(messages: &mut Vec<TemplateMessage>, call: Value) {
    const CALLS: &str = "tool_calls";
    if messages.last().is_none_or(|last| last["role"] != "assistant") {
        messages.push(TemplateMessage::from_iter([("role".into(), "assistant".into())]));
    }
    let last = messages.last_mut().map(|last| last.entry(CALLS).or_insert_with(|| json!([])));
    if let Some(Value::Array(calls)) = last {
        calls.push(call);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(input: Value) -> Result<Vec<TemplateMessage>, ApiError> {
        let input = serde_json::value::to_raw_value(&input).unwrap();
        messages(Some("be brief"), &input)
    }

    /// The messages after the instructions, as JSON.
    fn converted(input: Value) -> Value {
        json!(read(input).unwrap()[1..])
    }

    #[test]
    fn a_text_is_a_user_message_after_the_instructions() {
        let messages = read(json!("hi")).unwrap();
        assert_eq!(json!(messages[0]), json!({"role": "system", "content": "be brief"}));
        assert_eq!(converted(json!("hi")), json!([{"role": "user", "content": "hi"}]));
    }

    #[test]
    fn parts_are_texts_and_the_developer_role_is_system() {
        let input = json!([
            {"role": "developer",
             "content": [{"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "phase": null,
             "content": [{"type": "output_text", "text": "c", "annotations": [], "logprobs": [{}]}]},
        ]);
        let text = |text: &str| json!({"type": "text", "text": text});
        let expected = json!([
            {"role": "system", "content": [text("a"), text("b")]},
            {"role": "assistant", "content": [text("c")]},
        ]);
        assert_eq!(converted(input), expected);
    }

    #[test]
    fn calls_join_the_answer_before_them() {
        let call = |id: &str, arguments: &str| {
            let kind = "function_call";
            json!({"type": kind, "call_id": id, "name": "f", "arguments": arguments, "id": "fc"})
        };
        let in_template = |id: &str, arguments: Value| {
            let function = json!({"name": "f", "arguments": arguments});
            json!({"type": "function", "function": function, "id": id})
        };
        let input = json!([
            {"role": "assistant", "content": "a"}, call("1", "{\"x\": 1}"), call("2", "{"),
            {"type": "function_call_output", "call_id": "1", "output": "y"},
            call("3", "{}"),
        ]);
        let expected = json!([
            {"role": "assistant", "content": "a",
             "tool_calls": [in_template("1", json!({"x": 1})), in_template("2", json!("{"))]},
            {"role": "tool", "content": "y", "tool_call_id": "1"},
            {"role": "assistant", "tool_calls": [in_template("3", json!({}))]},
        ]);
        assert_eq!(converted(input), expected);
    }

    #[test]
    fn errors_name_the_path_of_the_item() {
        let user = |content: Value| json!([{"role": "user", "content": content}]);
        for (input, param) in [
            (json!(5), "input"),
            (json!([]), "input"),
            (json!(["a"]), "input[0]"),
            (json!([{"content": "a"}]), "input[0].role"),
            (json!([{"role": "tool", "content": "a"}]), "input[0].role"),
            (json!([{"role": "user", "content": "a", "name": "b"}]), "input[0].name"),
            (json!([{"type": "reasoning", "summary": []}]), "input[0].type"),
            (json!([{"type": "function_call", "call_id": "1", "name": "f"}]), "input[0].arguments"),
            (user(json!(5)), "input[0].content"),
            (user(json!([{"type": "input_image"}])), "input[0].content[0].type"),
            (user(json!([{"type": "text"}])), "input[0].content[0].text"),
            (user(json!([{"type": "text", "text": "a", "x": 1}])), "input[0].content[0].x"),
            (
                user(json!([{"type": "output_text", "text": "a", "annotations": [{}]}])),
                "input[0].content[0].annotations",
            ),
        ] {
            let error = read(input.clone()).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{input}: {}", error.message);
        }
    }
}
