//! Rejects grammars that contain names of special tokens as text.

use mistralrs_core::llguidance::toktrie::TokTrie;
use serde_json::Value;

use super::GrammarError;

/// Fails if a schema or a text contains the name of a special token as text. Where that text is forced, the tokenizer
/// would convert it to the special token, which the grammar does not allow.
pub(super) fn refuse_names(
    (schemas, texts): (Vec<&Value>, Vec<&str>),
    tokens: &TokTrie,
) -> Result<(), GrammarError> {
    let special = (0..tokens.vocab_size() as u32).filter(|&token| tokens.is_special_token(token));
    let names = special.filter_map(|token| std::str::from_utf8(tokens.token(token).get(1..)?).ok());
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    let found = schemas.into_iter().find_map(|schema| in_schema(schema, &names));
    let found = found.or_else(|| texts.into_iter().find_map(|text| in_text(text, &names)));
    match found {
        Some(name) => Err(GrammarError::Invalid(format!(
            "the grammar contains the name of the special token {name} as text: expected other text"
        ))),
        None => Ok(()),
    }
}

fn in_schema<'a>(schema: &Value, names: &[&'a str]) -> Option<&'a str> {
    match schema {
        Value::String(text) => within(text, names),
        Value::Array(items) => items.iter().find_map(|item| in_schema(item, names)),
        Value::Object(entries) => entries.iter().find_map(|(key, value)| match key.as_str() {
            "title" | "description" | "$comment" if value.is_string() => None,
            _ => within(key, names).or_else(|| in_schema(value, names)),
        }),
        _ => None,
    }
}

/// Searches a regular expression, or the quoted parts of a Lark grammar, where a name without quotes is the token.
fn in_text<'a>(text: &str, names: &[&'a str]) -> Option<&'a str> {
    let plain = text.replace('\\', "");
    if !text.contains("start:") {
        return within(&plain, names);
    }
    let quoted = plain.split('"').skip(1).step_by(2);
    let between_slashes = plain.lines().flat_map(|line| line.split('/').skip(1).step_by(2));
    quoted.chain(between_slashes).find_map(|part| within(part, names))
}

fn within<'a>(text: &str, names: &[&'a str]) -> Option<&'a str> {
    names.iter().find(|&&name| text.contains(name)).copied()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NAMES: [&str; 2] = ["<|end|>", "<s>"];

    #[test]
    fn names_are_found_where_they_would_be_text() {
        for schema in [json!({"const": "<|end|>"}), json!({"properties": {"a<s>": {}}})] {
            assert!(in_schema(&schema, &NAMES).is_some(), "{schema}");
        }
        for text in ["[a-z]{40}<\\|end\\|>x", "start: /[a-z]{30}/ \"<|end|>\"", "start: /a<s>/"] {
            assert!(in_text(text, &NAMES).is_some(), "{text}");
        }
    }

    #[test]
    fn tokens_themselves_and_descriptions_are_not_text() {
        assert_eq!(in_schema(&json!({"description": "<|end|>"}), &NAMES), None);
        assert_eq!(in_text("start: /[a-z]+/ <|end|> \"x\"", &NAMES), None);
    }
}
