//! Rejects what serde accepts: duplicate keys, of which serde uses one, and arrays in place of objects, whose items
//! serde reads as the fields in declaration order.

use std::collections::HashSet;
use std::fmt;

use colm_checkpoint::abbreviate;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The paths at which an array is rejected because an object is expected. `[]` is any item of an array.
const OBJECT_PATHS: [&str; 17] = [
    "grammar",
    "input[]",
    "input[].content[]",
    "messages[]",
    "messages[].content[]",
    "messages[].tool_calls[]",
    "messages[].tool_calls[].function",
    "reasoning",
    "response_format",
    "response_format.json_schema",
    "stream_options",
    "text",
    "text.format",
    "tool_choice",
    "tool_choice.function",
    "tools[]",
    "tools[].function",
];

/// Why a body is rejected.
pub enum ShapeError {
    /// It is not valid JSON, or an object has a duplicate key.
    Json(String),
    /// There is an array where an object is expected, at this path.
    Array(&'static str),
}

/// Fails if `body` is not valid JSON, has a duplicate key, or has an array in place of an object.
pub fn check(body: &[u8]) -> Result<(), ShapeError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut array = None;
    let checked = Value { path: Some(String::new()), array: &mut array }.deserialize(&mut json);
    match (checked.and_then(|()| json.end()), array) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(place)) => Err(ShapeError::Array(place)),
        (Err(error), None) => Err(ShapeError::Json(error.to_string())),
    }
}

/// A value to be checked. `path` is its path if it is, or contains, one of the [`OBJECT_PATHS`].
struct Value<'a> {
    path: Option<String>,
    array: &'a mut Option<&'static str>,
}

impl Value<'_> {
    fn child(&mut self, key: &str) -> Value<'_> {
        let path = self.path.as_ref().map(|path| match (path.as_str(), key) {
            ("", key) => key.to_string(),
            (path, "[]") => format!("{path}[]"),
            (path, key) => format!("{path}.{key}"),
        });
        let path = path.filter(|path| OBJECT_PATHS.iter().any(|place| place.starts_with(path)));
        Value { path, array: self.array }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(self.child(&key))?;
            if let Some(key) = seen.replace(key) {
                return Err(A::Error::custom(format!("duplicate field `{}`", abbreviate(&key))));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let place = OBJECT_PATHS.iter().find(|&&place| self.path.as_deref() == Some(place));
        if let Some(place) = place {
            *self.array = Some(place);
            return Err(A::Error::custom("an array in place of an object"));
        }
        while items.next_element_seed(self.child("[]"))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        match check(body.as_bytes()) {
            Ok(()) => String::new(),
            Err(ShapeError::Json(error)) => error,
            Err(ShapeError::Array(place)) => place.into(),
        }
    }

    #[test]
    fn duplicate_keys_are_rejected() {
        assert!(refused(r#"{"a": {"b": 1, "b": 2}}"#).contains("duplicate field `b`"));
        assert!(refused(r#"{"a": [{"b": 1}, {"b": 2, "c": [{"d": 1, "d": 1}]}]}"#).contains("`d`"));
        assert_eq!(refused(r#"{"a": {"b": 1}, "b": [1.5, -2, "x", null, true]}"#), "");
    }

    #[test]
    fn arrays_in_place_of_objects_are_rejected() {
        for (body, place) in [
            (r#"{"response_format": ["json_object"]}"#, "response_format"),
            (r#"{"response_format": {"json_schema": []}}"#, "response_format.json_schema"),
            (r#"{"tools": [["function"]]}"#, "tools[]"),
            (r#"{"messages": [{"content": [["text", "x"]]}]}"#, "messages[].content[]"),
            (r#"{"messages": [{"tool_calls": [["c"]]}]}"#, "messages[].tool_calls[]"),
            (
                r#"{"messages": [{"tool_calls": [{"function": ["f"]}]}]}"#,
                "messages[].tool_calls[].function",
            ),
            (r#"{"tool_choice": {"function": ["f"]}}"#, "tool_choice.function"),
        ] {
            assert_eq!(refused(body), place, "{body}");
        }
        for list in [
            r#"{"messages": [{"content": [{"type": "text"}]}], "stop": ["a"], "prompt": [[1, 2]]}"#,
            r#"{"tools": [{"function": {"parameters": {"required": ["grammar"]}}}]}"#,
            r#"{"x": {"grammar": [1]}}"#,
        ] {
            assert_eq!(refused(list), "", "{list}");
        }
    }
}
