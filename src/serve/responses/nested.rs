//! Values in a body that have several forms.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::error::ApiError;
use super::super::fields::Fields;

/// The field `type` of an object.
#[derive(Debug, Deserialize)]
pub struct Kind {
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

impl Kind {
    /// The type for error messages.
    pub fn type_name(&self) -> String {
        self.kind.as_deref().unwrap_or("null").chars().take(50).collect()
    }
}

/// Parses the object `value` with `read`. `at` is its path in the body. A field that is null counts as absent. A field
/// that `read` does not take is an error.
pub fn object<T>(
    value: &RawValue,
    at: &str,
    read: impl FnOnce(Kind, &mut Fields) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    if !value.get().starts_with('{') {
        return Err(bad_type(at, "an object"));
    }
    let read = || {
        let mut fields = Fields::parse(value.get().as_bytes())?;
        let object = read(fields.take()?, &mut fields)?;
        fields.finish()?;
        Ok(object)
    };
    read().map_err(|error| in_object(at, error))
}

/// A text or a list.
pub enum TextOrList<'a> {
    Text(String),
    List(Vec<&'a RawValue>),
}

impl<'a> TextOrList<'a> {
    /// Parses `value`. `at` is its path in the body.
    pub fn parse(value: &'a RawValue, at: &str) -> Result<Self, ApiError> {
        if let Ok(text) = serde_json::from_str(value.get()) {
            return Ok(Self::Text(text));
        }
        let list = serde_json::from_str(value.get()).map(Self::List);
        list.map_err(|_| bad_type(at, "a string or a list of objects"))
    }
}

fn bad_type(at: &str, expected: &str) -> ApiError {
    ApiError::invalid_value(at, format!("{at}: expected {expected}")).with_code("invalid_type")
}

/// Prefixes the field of `error` with the path `at`.
fn in_object(at: &str, mut error: ApiError) -> ApiError {
    let param = match &error.param {
        Some(field) => format!("{at}.{field}"),
        None => at.into(),
    };
    error.message = format!("in {at}: {}", error.message);
    error.with_param(param)
}
