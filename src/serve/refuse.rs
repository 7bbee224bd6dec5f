//! What is wrong with a request, where the host would say 500, not come back for long, or ignore it.

use indexmap::IndexMap;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::Deserialize;

use super::chains::{given, Fields};
use super::error::Refusal;

/// The most answers to one request: OpenAI's limit.
const MAX_CHOICES: u64 = 128;

/// A message, as far as it is looked at.
#[derive(Deserialize)]
struct Message {
    content: Option<Content>,
    tool_calls: Option<IgnoredAny>,
}

/// Text is not looked at.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Parts(Vec<Part>),
    Text(IgnoredAny),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Refuses the body `fields` of a request that cannot be answered. What has wrong types is left to
/// the host, which knows them all.
pub fn refuse(fields: &Fields) -> Result<(), Refusal> {
    if given(fields, "grammar").is_some() && given(fields, "response_format").is_some() {
        let message = "grammar and response_format exclude each other: give one of them";
        return Err(Refusal::new(message.into()).of("grammar"));
    }
    let bias = read::<IndexMap<String, IgnoredAny>>(fields, "logit_bias").unwrap_or_default();
    if !bias.is_empty() {
        let message = "the engine has no logit_bias, and would ignore it: leave it out";
        return Err(Refusal::new(message.into()).of("logit_bias").coded("unsupported_parameter"));
    }
    for field in ["n", "best_of"] {
        let choices =
            read::<u64>(fields, field).filter(|choices| !(1..=MAX_CHOICES).contains(choices));
        if let Some(choices) = choices {
            let message = format!("{field} is {choices}: expected 1 to {MAX_CHOICES}");
            return Err(Refusal::new(message).of(field).coded("invalid_value"));
        }
    }
    let messages: Vec<Message> = read(fields, "messages").unwrap_or_default();
    for (index, message) in messages.iter().enumerate() {
        match &message.content {
            None if message.tool_calls.is_none() => {
                let message = format!("messages[{index}] has neither content nor tool_calls");
                return Err(Refusal::new(message).of("messages"));
            }
            Some(Content::Parts(parts)) => refuse_parts(parts, index)?,
            Some(Content::Text(_)) | None => {}
        }
    }
    Ok(())
}

/// Refuses what is not text in the message at `index`.
fn refuse_parts(parts: &[Part], index: usize) -> Result<(), Refusal> {
    let kinds = parts.iter().filter_map(|part| part.kind.as_deref());
    match kinds.into_iter().find(|kind| *kind != "text") {
        Some(kind) => {
            let message = format!("messages[{index}] has a part of type {kind}: expected text");
            Err(Refusal::new(message).of("messages"))
        }
        None => Ok(()),
    }
}

/// The value of a field; None if it is absent or of another type.
fn read<T: DeserializeOwned>(fields: &Fields, name: &str) -> Option<T> {
    serde_json::from_str(given(fields, name)?.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> Option<&'static str> {
        refuse(&serde_json::from_str(body).unwrap()).err().map(|refusal| refusal.param.unwrap())
    }

    #[test]
    fn what_cannot_be_answered_is_refused_by_field() {
        let image = r#"{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#;
        assert_eq!(refused(image), Some("messages"));
        assert_eq!(
            refused(r#"{"messages": [{"role": "user", "content": null}]}"#),
            Some("messages")
        );
        assert_eq!(refused(r#"{"grammar": {}, "response_format": {}}"#), Some("grammar"));
        assert_eq!(refused(r#"{"logit_bias": {"5": -100}}"#), Some("logit_bias"));
        assert_eq!(refused(r#"{"n": 0}"#), Some("n"));
        assert_eq!(refused(r#"{"best_of": 129}"#), Some("best_of"));
    }

    #[test]
    fn what_can_be_answered_or_has_wrong_types_is_left_to_the_host() {
        for body in [
            r#"{"messages": [{"tool_calls": []}, {"content": "a"}], "n": 128}"#,
            r#"{"messages": [{"content": [{"type": "text", "text": "a"}]}]}"#,
            r#"{"messages": "a", "n": "two", "grammar": {}, "response_format": null}"#,
            r#"{"messages": 5}"#,
            r#"{"logit_bias": {}}"#,
            r#"{"logit_bias": null}"#,
        ] {
            assert_eq!(refused(body), None, "{body}");
        }
    }
}
