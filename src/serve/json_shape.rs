//! What JSON readers let pass: keys that come twice, of which one counts, and lists in the place of objects, whose
//! items are taken for fields in their order.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Where no list may stand; `[]` stands for an item of a list.
const NO_LISTS: [&str; 14] = [
    "grammar",
    "input[]",
    "input[].content[]",
    "messages[]",
    "messages[].content[]",
    "reasoning",
    "response_format",
    "response_format.json_schema",
    "stream_options",
    "text",
    "text.format",
    "tool_choice",
    "tools[]",
    "tools[].function",
];

/// Why a body is refused.
pub enum BadShape {
    /// It is no JSON, or has a key twice.
    Json(String),
    /// A list stands where an object is expected.
    List(&'static str),
}

/// Refuses `body` if it is no JSON, has a key twice in one object, or a list in the place of an object.
pub fn check(body: &[u8]) -> Result<(), BadShape> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut list = None;
    let checked = Value { path: Some(String::new()), list: &mut list }.deserialize(&mut json);
    match (checked.and_then(|()| json.end()), list) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(place)) => Err(BadShape::List(place)),
        (Err(error), None) => Err(BadShape::Json(error.to_string())),
    }
}

/// A value, and where it stands, unless that is within nothing that is in [`NO_LISTS`].
struct Value<'a> {
    path: Option<String>,
    list: &'a mut Option<&'static str>,
}

impl Value<'_> {
    fn within(&mut self, key: &str) -> Value<'_> {
        let path = self.path.as_ref().map(|path| match (path.as_str(), key) {
            ("", key) => key.to_string(),
            (path, "[]") => format!("{path}[]"),
            (path, key) => format!("{path}.{key}"),
        });
        let path = path.filter(|path| NO_LISTS.iter().any(|place| place.starts_with(path)));
        Value { path, list: self.list }
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
            map.next_value_seed(self.within(&key))?;
            if let Some(key) = seen.replace(key) {
                let key: String = key.chars().take(100).collect();
                return Err(A::Error::custom(format!("duplicate field `{key}`")));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let place = NO_LISTS.iter().find(|&&place| self.path.as_deref() == Some(place));
        if let Some(place) = place {
            *self.list = Some(place);
            return Err(A::Error::custom("a list in the place of an object"));
        }
        while items.next_element_seed(self.within("[]"))?.is_some() {}
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
            Err(BadShape::Json(error)) => error,
            Err(BadShape::List(place)) => place.into(),
        }
    }

    #[test]
    fn a_key_comes_once_in_each_object() {
        assert!(refused(r#"{"a": {"b": 1, "b": 2}}"#).contains("duplicate field `b`"));
        assert!(refused(r#"{"a": [{"b": 1}, {"b": 2, "c": [{"d": 1, "d": 1}]}]}"#).contains("`d`"));
        assert_eq!(refused(r#"{"a": {"b": 1}, "b": [1.5, -2, "x", null, true]}"#), "");
    }

    #[test]
    fn a_list_is_no_object() {
        for (body, place) in [
            (r#"{"response_format": ["json_object"]}"#, "response_format"),
            (r#"{"response_format": {"json_schema": []}}"#, "response_format.json_schema"),
            (r#"{"tools": [["function"]]}"#, "tools[]"),
            (r#"{"messages": [{"content": [["text", "x"]]}]}"#, "messages[].content[]"),
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
