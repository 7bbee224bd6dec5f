//! Limits on the size of the source of a grammar.

use serde_json::{Deserializer, Value};

use super::intersections::operators;
use super::GrammarError;

/// Total bytes of all texts, and of the keys and strings of schemas except titles and descriptions.
const MAX_BYTES: usize = 64 << 10;
/// Bytes of one string, which may be a regular expression.
const MAX_STRING_BYTES: usize = 32 << 10;
/// JSON values of all kinds.
const MAX_VALUES: usize = 10_000;
/// Keys of one object.
const MAX_KEYS: usize = 1_000;
/// Levels of nested objects and arrays.
const MAX_DEPTH: usize = 100;
/// Operators of one string that give a choice, if it is a regular expression. In tests, each took up to 35 kilobytes.
const MAX_OPERATORS: usize = 4_000;
/// Character classes that ignore case. Each may take some milliseconds.
const MAX_CASELESS_CLASSES: usize = 100;

/// Fails if `found` exceeds `limit`.
pub(super) fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), GrammarError> {
    if found > limit {
        return Err(GrammarError::TooLarge { what, found, limit });
    }
    Ok(())
}

/// The total size of the parts of a grammar.
#[derive(Default)]
pub(super) struct Size {
    bytes: usize,
    values: usize,
    caseless_classes: usize,
}

impl Size {
    /// Adds a schema.
    pub(super) fn schema(&mut self, schema: &Value) -> Result<(), GrammarError> {
        // These options can make a grammar that matches the same byte forever.
        for option in ["whitespace_pattern", "item_separator", "key_separator"] {
            if schema["x-guidance"].get(option).is_some() {
                let message = format!(
                    "x-guidance has {option}: expected whitespace_flexible or no whitespace option"
                );
                return Err(GrammarError::Invalid(message));
            }
        }
        self.value(schema, 0)
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), GrammarError> {
        if depth > MAX_DEPTH {
            return Err(GrammarError::TooDeep { limit: MAX_DEPTH });
        }
        self.values += 1;
        at_most("values", self.values, MAX_VALUES)?;
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter().try_for_each(|item| self.value(item, depth + 1)),
            Value::Object(entries) => {
                at_most("keys in one object", entries.len(), MAX_KEYS)?;
                entries.iter().try_for_each(|(key, value)| match key.as_str() {
                    "title" | "description" | "$comment" if value.is_string() => Ok(()),
                    _ => self.text(key).and_then(|()| self.value(value, depth + 1)),
                })
            }
            _ => Ok(()),
        }
    }

    /// Adds a regular expression, a Lark grammar, or a string that may be one.
    pub(super) fn text(&mut self, text: &str) -> Result<(), GrammarError> {
        self.bytes += text.len();
        at_most("bytes in one string", text.len(), MAX_STRING_BYTES)?;
        at_most("bytes", self.bytes, MAX_BYTES)?;
        at_most("operators (|?*+{) in one string", operators(text), MAX_OPERATORS)?;
        if ignores_case(text) {
            self.caseless_classes += text.matches(['[', '\\']).count();
        }
        let found = self.caseless_classes;
        at_most("character classes and escapes that ignore case", found, MAX_CASELESS_CLASSES)
    }
}

/// Whether a regular expression in the text may ignore case: `(?i)`, or `/.../i` in Lark.
fn ignores_case(text: &str) -> bool {
    let flagged = |(at, before): (usize, &str)| {
        let flags = &text[at + before.len()..];
        let end = flags.find(|c: char| !c.is_ascii_alphabetic() && c != '-');
        flags[..end.unwrap_or(flags.len())].contains('i')
    };
    text.match_indices("(?").any(flagged) || text.match_indices('/').any(flagged)
}

/// The schemas in a Lark grammar.
pub(super) fn embedded_schemas(mut text: &str) -> Result<Vec<Value>, GrammarError> {
    let mut schemas = Vec::new();
    while let Some((_, after)) = text.split_once("%json") {
        let mut values = Deserializer::from_str(after).into_iter();
        let Some(Ok(schema)) = values.next() else {
            return Err(GrammarError::Invalid(
                "%json is not followed by JSON: expected a schema".into(),
            ));
        };
        schemas.push(schema);
        text = &after[values.byte_offset()..];
    }
    Ok(schemas)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(schema: &Value) -> String {
        Size::default().schema(schema).unwrap_err().to_string()
    }

    #[test]
    fn every_limit_is_checked() {
        assert_eq!(Size::default().schema(&json!({"enum": vec![1; 9_000]})), Ok(()));
        let many = json!({"enum": vec![1; 100_000]});
        assert_eq!(refused(&many), "the grammar has 10001 values: expected at most 10000");
        let wide: Value = (0..1_001).map(|key| (key.to_string(), json!({}))).collect();
        assert!(refused(&wide).contains("1001 keys in one object"));
        assert!(
            refused(&json!({"const": "x".repeat(40_000)})).contains("40000 bytes in one string")
        );
        assert!(refused(&json!({"enum": vec!["x".repeat(30_000); 3]})).contains("90004 bytes:"));
        let deep = (0..101).fold(json!(1), |schema, _| json!([schema]));
        assert!(refused(&deep).contains("more than 100 levels"));
    }

    #[test]
    fn descriptions_do_not_count() {
        let described = json!({"description": "x".repeat(70_000), "title": "x".repeat(70_000)});
        assert_eq!(Size::default().schema(&described), Ok(()));
        let named = json!({"properties": {"description": {"const": "x".repeat(70_000)}}});
        assert!(refused(&named).contains("bytes"));
    }

    #[test]
    fn whitespace_patterns_are_refused() {
        assert_eq!(Size::default().schema(&json!({"x-guidance": {"lenient": true}})), Ok(()));
        assert!(refused(&json!({"x-guidance": {"whitespace_pattern": " +"}})).contains("pattern"));
    }

    #[test]
    fn classes_that_ignore_case_are_limited() {
        let caseless = |text: &str| Size::default().text(text).is_err();
        let classes = "[^a]".repeat(101);
        assert!(!caseless(&classes) && !caseless(&format!("(?:s)(?P<sit>{classes})")));
        assert!(caseless(&format!("(?i){classes}")) && caseless(&format!("x(?s-i:{classes})")));
        assert!(caseless(&format!("start: /{classes}/i")) && caseless(&format!("/{classes}/xis")));
    }

    #[test]
    fn schemas_are_found_in_lark() {
        let found = embedded_schemas("start: %json {\"a\": \"%json\"} | \"x\" %json[1]\nb: \"y\"");
        assert_eq!(found, Ok(vec![json!({"a": "%json"}), json!([1])]));
        assert!(embedded_schemas("start: %json {").is_err());
    }
}
