//! The field `input`: a text, or the items of a conversation.

use either::Either;
use indexmap::IndexMap;
use serde::de::IgnoredAny;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::chat::request::template_call;
use super::super::error::Refusal;
use super::super::fields::Fields;
use super::nested::{object, Kind, TextOrList};
use crate::host::request::TemplateMessage;

/// What the user says, or a conversation.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the field")]
pub enum InputField {
    Text(String),
    Items(Vec<InputItem>),
}

/// An item of a conversation; one without a type is a message. Those of answers may be sent back as they
/// are, with id and status.
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
    /// system, developer (the same), user or assistant.
    role: String,
    #[schema(value_type = InputContent)]
    content: Box<RawValue>,
}

/// A call in an earlier answer.
#[derive(Debug, Deserialize, ToSchema)]
pub struct InputCall {
    call_id: String,
    name: String,
    /// JSON.
    arguments: String,
}

/// What a function has returned.
#[derive(Debug, Deserialize, ToSchema)]
pub struct InputCallOutput {
    /// That of the call.
    call_id: String,
    #[schema(value_type = InputContent)]
    output: Box<RawValue>,
}

/// What items of answers have beside; it changes nothing.
#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "its types are checked")]
struct ItemLabels {
    id: Option<String>,
    status: Option<String>,
}

/// A text, or several that are joined.
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
    /// input_text, output_text or text.
    #[serde(rename = "type")]
    #[allow(dead_code, reason = "describes the field")]
    kind: String,
    text: String,
    /// Only `[]`.
    #[schema(value_type = Option<Vec<Object>>)]
    annotations: Option<Vec<IgnoredAny>>,
    /// As parts of answers have them; they change nothing.
    #[schema(value_type = Option<Vec<Object>>)]
    #[allow(dead_code, reason = "its type is checked")]
    logprobs: Option<Vec<IgnoredAny>>,
}

/// The conversation of `input`, after a system message with the `instructions`, as chat templates see it.
pub fn messages(
    instructions: Option<&str>,
    input: &RawValue,
) -> Result<Vec<TemplateMessage>, Refusal> {
    let instructions = instructions.map(|text| template_message("system", text.into()));
    let mut messages = Vec::from_iter(instructions);
    match TextOrList::of(input, "input")? {
        TextOrList::Text(text) => messages.push(template_message("user", text)),
        TextOrList::List(items) if items.is_empty() => {
            return Err(Refusal::value("input", "expected at least one item"));
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

/// An item as chat templates see it.
enum Item {
    Message(TemplateMessage),
    Call(IndexMap<String, Value>),
}

/// The item with these fields.
fn item(kind: Kind, fields: &mut Fields) -> Result<Item, Refusal> {
    fields.take::<ItemLabels>()?;
    match kind.kind.as_deref() {
        None | Some("message") => message(&fields.take()?).map(Item::Message),
        Some("function_call") => {
            let InputCall { call_id, name, arguments } = fields.take()?;
            Ok(Item::Call(template_call(Some(call_id), name, arguments.into())))
        }
        Some("function_call_output") => {
            let InputCallOutput { call_id, output } = fields.take()?;
            let mut message = template_message("tool", text(&output, "output")?);
            message.insert("tool_call_id".into(), Either::Left(call_id));
            Ok(Item::Message(message))
        }
        Some(_) => {
            let expected = "expected message, function_call or function_call_output";
            let message = format!("an item of type {}: {expected}", kind.shown());
            Err(Refusal::unsupported("type", message))
        }
    }
}

fn message(message: &InputMessage) -> Result<TemplateMessage, Refusal> {
    let role = match message.role.as_str() {
        // A newer name, which few templates know.
        "developer" => "system",
        role @ ("system" | "user" | "assistant") => role,
        _ => return Err(Refusal::value("role", "expected system, developer, user or assistant")),
    };
    Ok(template_message(role, text(&message.content, "content")?))
}

/// The text of `content`, which stands at `at`.
fn text(content: &RawValue, at: &str) -> Result<String, Refusal> {
    match TextOrList::of(content, at)? {
        TextOrList::Text(text) => Ok(text),
        TextOrList::List(parts) => {
            let parts = parts.into_iter().enumerate();
            parts.map(|(index, value)| object(value, &format!("{at}[{index}]"), part)).collect()
        }
    }
}

/// The text of the part with these fields.
fn part(kind: Kind, fields: &mut Fields) -> Result<String, Refusal> {
    if !matches!(kind.kind.as_deref(), Some("input_text" | "output_text" | "text")) {
        let kind = kind.shown();
        let message = format!("a part of type {kind}: expected input_text, output_text or text");
        return Err(Refusal::unsupported("type", message));
    }
    let part: InputPart = fields.take()?;
    if part.annotations.is_some_and(|annotations| !annotations.is_empty()) {
        return Err(Refusal::unsupported("annotations", "the model sees no annotations"));
    }
    Ok(part.text)
}

fn template_message(role: &str, content: String) -> TemplateMessage {
    TemplateMessage::from([
        ("role".to_string(), Either::Left(role.to_string())),
        ("content".to_string(), Either::Left(content)),
    ])
}

/// Adds a call to the answer that the last message is, for an answer is one message; else as one of its own.
fn add_call(messages: &mut Vec<TemplateMessage>, call: IndexMap<String, Value>) {
    let assistant = Either::Left("assistant".to_string());
    if messages.last().is_none_or(|last| last["role"] != assistant) {
        messages.push(template_message("assistant", String::new()));
    }
    let last = messages.last_mut().map(|last| last.entry("tool_calls".into()));
    if let Some(Either::Right(calls)) = last.map(|calls| calls.or_insert(Either::Right(vec![]))) {
        calls.push(call);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(input: Value) -> Result<Vec<TemplateMessage>, Refusal> {
        let input = serde_json::value::to_raw_value(&input).unwrap();
        messages(Some("be brief"), &input)
    }

    /// The messages after the instructions, as JSON.
    fn shown(input: Value) -> Value {
        let shown = |content: &Either<String, Vec<IndexMap<String, Value>>>| match content {
            Either::Left(text) => json!(text),
            Either::Right(calls) => json!(calls),
        };
        let messages = read(input).unwrap();
        let messages = messages[1..].iter().map(|message| {
            Value::from_iter(message.iter().map(|(field, content)| (field.clone(), shown(content))))
        });
        messages.collect()
    }

    #[test]
    fn a_text_is_what_the_user_says_after_the_instructions() {
        let messages = read(json!("hi")).unwrap();
        assert_eq!(messages[0]["role"], Either::Left("system".into()));
        assert_eq!(messages[0]["content"], Either::Left("be brief".into()));
        assert_eq!(shown(json!("hi")), json!([{"role": "user", "content": "hi"}]));
    }

    #[test]
    fn parts_are_joined_and_developers_are_the_system() {
        let input = json!([
            {"role": "developer",
             "content": [{"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "phase": null,
             "content": [{"type": "output_text", "text": "c", "annotations": [], "logprobs": [{}]}]},
        ]);
        let expected =
            json!([{"role": "system", "content": "ab"}, {"role": "assistant", "content": "c"}]);
        assert_eq!(shown(input), expected);
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
            {"role": "assistant", "content": "", "tool_calls": [in_template("3", json!({}))]},
        ]);
        assert_eq!(shown(input), expected);
    }

    #[test]
    fn what_is_no_item_is_refused_by_its_path() {
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
            let refusal = read(input.clone()).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(param), "{input}: {}", refusal.message);
        }
    }
}
