//! The body of a request: a JSON object whose fields are taken, one group after the other, by the types that
//! know them. What nobody takes is refused by name.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::{header, HeaderMap, StatusCode};
use futures::StreamExt;
use indexmap::IndexMap;
use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::value::RawValue;
use serde_json::Value;

use super::error::Refusal;
use super::json_shape::{self, BadShape};
use super::Served;

/// How long nothing of a body may arrive before it is given up.
const SILENCE: Duration = Duration::from_secs(8);

/// How much of a body that is too long is read before its connection is closed.
const MOST_DISCARDED: usize = 64 * 1024 * 1024;

/// The fields of a body. Those that are null count as absent.
#[derive(Debug)]
pub struct Fields {
    fields: IndexMap<String, Box<RawValue>>,
    /// The names that some type has taken.
    taken: Vec<&'static str>,
}

impl Fields {
    /// The fields of the JSON object `body`.
    pub fn of(body: &[u8]) -> Result<Self, Refusal> {
        let no_object = |error: String| {
            if error.contains("recursion limit") {
                Refusal::new("the body has lists and objects more than 127 levels deep")
            } else {
                Refusal::new(format!("the body is not a JSON object: {error}"))
            }
        };
        let mut fields: IndexMap<String, Box<RawValue>> =
            serde_json::from_slice(body).map_err(|error| no_object(error.to_string()))?;
        json_shape::check(body).map_err(|bad| match bad {
            BadShape::Json(error) => no_object(error),
            BadShape::List(place) => Refusal::new(format!("{place}: a list: expected an object"))
                .of(place)
                .coded("invalid_type"),
        })?;
        fields.retain(|_, value| value.get() != "null");
        Ok(Self { fields, taken: Vec::new() })
    }

    /// Takes the fields that the struct `T` has.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<T, Refusal> {
        let mut track = serde_path_to_error::Track::new();
        let taking = Taking { fields: &self.fields, taken: &mut self.taken };
        let taking = serde_path_to_error::Deserializer::new(taking, &mut track);
        T::deserialize(taking).map_err(|error| bad_field(&track.path().to_string(), &error))
    }

    /// A field as it was sent, with its fields in their order.
    pub fn sent(&self, field: &str) -> Option<Value> {
        self.fields.get(field).and_then(|value| serde_json::from_str(value.get()).ok())
    }

    /// Refuses what nobody has taken.
    pub fn finish(self) -> Result<(), Refusal> {
        match self.fields.keys().find(|field| !self.taken.contains(&field.as_str())) {
            None => Ok(()),
            Some(field) => {
                let message = format!(
                    "the field \"{}\" is not supported: leave it out (docs/openai.md lists the fields)",
                    shortened(field)
                );
                Err(Refusal::unsupported(shortened(field), message))
            }
        }
    }
}

impl FromRequest<Served> for Fields {
    type Rejection = Refusal;

    async fn from_request(request: Request, served: &Served) -> Result<Self, Refusal> {
        if !is_json(request.headers()) {
            let message = "expected a body with the header Content-Type: application/json";
            return Err(Refusal::new(message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        Self::of(&read(request, served.most_body_bytes).await?)
    }
}

/// The body of `request`, of at most `most` bytes.
async fn read(request: Request, most: usize) -> Result<Vec<u8>, Refusal> {
    let mut pieces = request.into_body().into_data_stream();
    let (mut body, mut arrived) = (Vec::new(), 0);
    // A client that still sends would not see its refusal: what is too much is read, and not kept.
    while arrived <= most + MOST_DISCARDED {
        let piece = tokio::time::timeout(SILENCE, pieces.next()).await.map_err(|_| {
            let message = format!("nothing of the body has arrived for {} s", SILENCE.as_secs());
            Refusal::new(message).with_status(StatusCode::REQUEST_TIMEOUT)
        })?;
        let Some(piece) = piece else { break };
        let piece =
            piece.map_err(|error| Refusal::new(format!("the body cannot be read: {error}")))?;
        arrived += piece.len();
        if arrived <= most {
            body.extend_from_slice(&piece);
        } else {
            body = Vec::new();
        }
    }
    if arrived <= most {
        return Ok(body);
    }
    let refusal = Refusal::new(format!("the body is longer than {most} bytes"));
    Err(refusal.with_status(StatusCode::PAYLOAD_TOO_LARGE))
}

/// Whether the headers announce JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// What is wrong with the field at `path`.
fn bad_field(path: &str, error: &serde_json::Error) -> Refusal {
    let error = error.to_string();
    let missing = error.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let param = match (path, missing) {
        (".", Some(missing)) => missing.to_string(),
        (path, Some(missing)) => format!("{path}.{missing}"),
        (path, None) => path.to_string(),
    };
    // Positions are those within the field, of which clients know nothing.
    let message = error.split(" at line ").next().unwrap_or(&error);
    Refusal::new(format!("{param}: {}", shortened(message))).of(param).coded("invalid_type")
}

/// Values that clients send appear in messages, but not megabytes of them.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 300;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}..", &text[..at]),
        None => text.into(),
    }
}

/// Gives a struct those of the fields that it knows.
struct Taking<'de> {
    fields: &'de IndexMap<String, Box<RawValue>>,
    taken: &'de mut Vec<&'static str>,
}

impl<'de> Deserializer<'de> for Taking<'de> {
    type Error = serde_json::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.taken.extend(known);
        let fields = self.fields;
        let known = known.iter().filter_map(|&name| Some((name, &**fields.get(name)?)));
        visitor.visit_map(MapDeserializer::new(known))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct First {
        a: Option<u32>,
        b: Vec<Inner>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        c: bool,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Second {
        d: Option<String>,
    }

    fn refused<T: DeserializeOwned + fmt::Debug>(body: &str) -> (String, String) {
        let taken = Fields::of(body.as_bytes()).and_then(|mut fields| fields.take::<T>());
        let refusal = taken.unwrap_err();
        (refusal.param.unwrap_or_default(), refusal.message)
    }

    #[test]
    fn each_type_takes_its_fields_and_null_is_absent() {
        let body = br#"{"d": "x", "b": [{"c": true}], "a": null, "e": null}"#;
        let mut fields = Fields::of(body).unwrap();
        assert_eq!(fields.take::<First>().unwrap(), First { a: None, b: vec![Inner { c: true }] });
        assert_eq!(fields.take::<Second>().unwrap(), Second { d: Some("x".into()) });
        fields.finish().unwrap();
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        let (param, message) = refused::<First>(r#"{"b": [{"c": true}, {"c": 5}]}"#);
        assert_eq!(param, "b[1].c");
        assert!(message.contains("expected a boolean"), "{message}");
        assert_eq!(refused::<First>(r#"{"a": "x", "b": []}"#).0, "a");
        assert_eq!(refused::<First>(r#"{"a": 1}"#).0, "b");
        assert_eq!(refused::<First>(r#"{"b": [{}]}"#).0, "b[0].c");
        assert_eq!(refused::<First>(r#"{"a": 1e99, "b": []}"#).0, "a");
        let (_, message) = refused::<First>(r#"{"b": [{"c": true, "c": false}]}"#);
        assert!(message.contains("duplicate field `c`"), "{message}");
    }

    #[test]
    fn what_nobody_takes_is_refused_by_name() {
        let mut fields = Fields::of(br#"{"b": [], "logit_bais": {}}"#).unwrap();
        fields.take::<First>().unwrap();
        assert_eq!(fields.finish().unwrap_err().param.unwrap(), "logit_bais");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let deep = "[".repeat(10_000);
        let deeper = format!("{{\"a\": {deep}");
        for body in ["", "[]", "5", "{\"a\": 1", "{\"a\": 1, \"a\": 2}", "{'a': 1}", &deep, &deeper]
        {
            assert!(Fields::of(body.as_bytes()).is_err(), "{body}");
        }
        assert!(Fields::of(b"{\"a\": \"\xff\"}").is_err());
    }

    #[test]
    fn a_body_that_is_too_deep_is_said_to_be() {
        let (open, close) = ("[".repeat(200), "]".repeat(200));
        let message =
            Fields::of(format!("{{\"a\": {open}{close}}}").as_bytes()).unwrap_err().message;
        assert!(message.contains("127 levels"), "{message}");
        let message = Fields::of(b"[1]").unwrap_err().message;
        assert!(message.contains("not a JSON object"), "{message}");
    }
}
