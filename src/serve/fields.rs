//! The body of a request: a JSON object. Each group of fields is taken out of it by the type that describes the group;
//! a field that no type has taken is an error that names the field.

use axum::extract::{FromRequest, Request};
use axum::http::{header, HeaderMap, StatusCode};
use colm_checkpoint::abbreviate;
use colm_checkpoint::json::in_words;
use futures::StreamExt;
use indexmap::IndexMap;
use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::value::RawValue;
use serde_json::Value;

use super::error::ApiError;
use super::json_shape::{self, ShapeError};
use super::limits::RequestLimits;
use super::AppState;

/// How many bytes beyond the limit are read and discarded before the connection is closed.
const MAX_DISCARDED_BYTES: usize = 64 * 1024 * 1024;

/// The fields of a body. A field that is null counts as absent.
#[derive(Debug)]
pub struct Fields {
    fields: IndexMap<String, Box<RawValue>>,
    /// The names of the fields taken so far.
    taken: Vec<&'static str>,
}

impl Fields {
    /// Parses the JSON object `body`.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let not_an_object = |error: String| {
            if error.contains("recursion limit") {
                ApiError::new("the body has more than 127 levels of nesting")
            } else {
                ApiError::new(format!("the body is not a JSON object: {error}"))
            }
        };
        let mut fields: IndexMap<String, Box<RawValue>> =
            serde_json::from_slice(body).map_err(|error| not_an_object(error.to_string()))?;
        json_shape::check(body).map_err(|bad| match bad {
            ShapeError::Json(error) => not_an_object(error),
            ShapeError::Array(place) => {
                ApiError::new(format!("{place}: expected an object, not an array"))
                    .with_param(place)
                    .with_code("invalid_type")
            }
        })?;
        fields.retain(|_, value| value.get() != "null");
        Ok(Self { fields, taken: Vec::new() })
    }

    /// Takes the fields of the struct `T`.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let mut track = serde_path_to_error::Track::new();
        let deserializer = FieldsDeserializer { fields: &self.fields, taken: &mut self.taken };
        let deserializer = serde_path_to_error::Deserializer::new(deserializer, &mut track);
        T::deserialize(deserializer).map_err(|error| field_error(&track.path().to_string(), &error))
    }

    /// The JSON value of a field, with its keys in the order of the body.
    pub fn json(&self, field: &str) -> Option<Value> {
        self.fields.get(field).and_then(|value| serde_json::from_str(value.get()).ok())
    }

    /// Fails if a field is left that no type has taken.
    pub fn finish(self) -> Result<(), ApiError> {
        match self.fields.keys().find(|field| !self.taken.contains(&field.as_str())) {
            None => Ok(()),
            Some(field) => {
                let field = abbreviate(field);
                let message = format!(
                    "the field \"{field}\" is not supported (docs/openai.md lists the fields)"
                );
                Err(ApiError::unsupported(field, message))
            }
        }
    }
}

impl FromRequest<AppState> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            let message = "expected the header Content-Type: application/json";
            return Err(ApiError::new(message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let encoding = request.headers().get(header::CONTENT_ENCODING);
        if let Some(encoding) = encoding.filter(|encoding| *encoding != "identity") {
            let message =
                format!("Content-Encoding {encoding:?}: expected a body that is not compressed");
            return Err(ApiError::new(message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        Self::parse(&read(request, &state.limits).await?)
    }
}

/// Reads the body of `request`. Fails if it is too large, or if no data arrives for too long.
async fn read(request: Request, limits: &RequestLimits) -> Result<Vec<u8>, ApiError> {
    let (limit, timeout) = (limits.max_body_bytes, limits.body_timeout);
    let mut pieces = request.into_body().into_data_stream();
    let (mut body, mut received) = (Vec::new(), 0);
    // A client that is still sending would not read the error response. The excess is therefore read and discarded.
    while received <= limit + MAX_DISCARDED_BYTES {
        let piece = tokio::time::timeout(timeout, pieces.next()).await.map_err(|_| {
            let message =
                format!("no data of the body was received for {} s", timeout.as_secs_f64());
            ApiError::new(message).with_status(StatusCode::REQUEST_TIMEOUT)
        })?;
        let Some(piece) = piece else { break };
        let piece =
            piece.map_err(|error| ApiError::new(format!("the body cannot be read: {error}")))?;
        received += piece.len();
        if received <= limit {
            body.extend_from_slice(&piece);
        } else {
            body = Vec::new();
        }
    }
    if received <= limit {
        return Ok(body);
    }
    let error = ApiError::new(format!("the body is larger than {limit} bytes"));
    Err(error.with_status(StatusCode::PAYLOAD_TOO_LARGE))
}

/// Whether the Content-Type is JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// The error of a field, at `path` in the body.
fn field_error(path: &str, error: &serde_json::Error) -> ApiError {
    let error = error.to_string();
    let missing = error.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let param = match (path, missing) {
        (".", Some(missing)) => missing.to_string(),
        (path, Some(missing)) => format!("{path}.{missing}"),
        (path, None) => path.to_string(),
    };
    // serde_json gives the position within the field, which means nothing to the client.
    let message = error.split(" at line ").next().unwrap_or(&error);
    let message = in_words(message);
    ApiError::new(format!("{param}: {}", abbreviate(&message)))
        .with_param(param)
        .with_code("invalid_type")
}

/// Deserializes a struct from the fields that it has, and records them as taken.
struct FieldsDeserializer<'de> {
    fields: &'de IndexMap<String, Box<RawValue>>,
    taken: &'de mut Vec<&'static str>,
}

impl<'de> Deserializer<'de> for FieldsDeserializer<'de> {
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
        let taken = Fields::parse(body.as_bytes()).and_then(|mut fields| fields.take::<T>());
        let error = taken.unwrap_err();
        (error.param.unwrap_or_default(), error.message)
    }

    #[test]
    fn each_type_takes_its_fields_and_null_is_absent() {
        let body = br#"{"d": "x", "b": [{"c": true}], "a": null, "e": null}"#;
        let mut fields = Fields::parse(body).unwrap();
        assert_eq!(fields.take::<First>().unwrap(), First { a: None, b: vec![Inner { c: true }] });
        assert_eq!(fields.take::<Second>().unwrap(), Second { d: Some("x".into()) });
        fields.finish().unwrap();
    }

    #[test]
    fn errors_name_the_path_of_the_field() {
        let (param, message) = refused::<First>(r#"{"b": [{"c": true}, {"c": 5}]}"#);
        assert_eq!(param, "b[1].c");
        assert!(message.contains("expected a boolean"), "{message}");
        for wrong in [r#""x""#, "-1", "1.5"] {
            let (param, message) = refused::<First>(&format!(r#"{{"a": {wrong}, "b": []}}"#));
            assert_eq!(param, "a");
            assert!(message.ends_with("expected a whole number from 0 to 4294967295"), "{message}");
        }
        assert_eq!(refused::<First>(r#"{"a": 1}"#).0, "b");
        assert_eq!(refused::<First>(r#"{"b": [{}]}"#).0, "b[0].c");
        assert_eq!(refused::<First>(r#"{"a": 1e99, "b": []}"#).0, "a");
        assert!(refused::<First>(r#"{"b": 1}"#).1.ends_with("expected a list"));
        assert!(refused::<First>(r#"{"b": [1]}"#).1.ends_with("expected a map"));
        let (_, message) = refused::<First>(r#"{"b": [{"c": true, "c": false}]}"#);
        assert!(message.contains("duplicate field `c`"), "{message}");
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let mut fields = Fields::parse(br#"{"b": [], "logit_bais": {}}"#).unwrap();
        fields.take::<First>().unwrap();
        assert_eq!(fields.finish().unwrap_err().param.unwrap(), "logit_bais");
    }

    #[test]
    fn a_body_that_is_not_an_object_is_refused() {
        let deep = "[".repeat(10_000);
        let deeper = format!("{{\"a\": {deep}");
        for body in ["", "[]", "5", "{\"a\": 1", "{\"a\": 1, \"a\": 2}", "{'a': 1}", &deep, &deeper]
        {
            assert!(Fields::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(Fields::parse(b"{\"a\": \"\xff\"}").is_err());
    }

    #[test]
    fn a_body_that_is_too_deep_has_its_own_message() {
        let (open, close) = ("[".repeat(200), "]".repeat(200));
        let message =
            Fields::parse(format!("{{\"a\": {open}{close}}}").as_bytes()).unwrap_err().message;
        assert!(message.contains("127 levels"), "{message}");
        let message = Fields::parse(b"[1]").unwrap_err().message;
        assert!(message.contains("not a JSON object"), "{message}");
    }
}
