//! Values within a body that have several forms.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::error::ApiError;
use super::super::fields::Fields;

/// The type of an object.
#[derive(Debug, Deserialize)]
pub struct Kind {
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

impl Kind {
    /// The type as messages show it.
    pub fn shown(&self) -> String {
        self.kind.as_deref().unwrap_or("null").chars().take(50).collect()
    }
}

/// The object `value`, which stands at `at`, read by `read`. Fields that are null count as absent; those that
/// `read` does not take are refused by name.
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
    read().map_err(|error| within(at, error))
}

/// A text, or a list.
pub enum TextOrList<'a> {
    Text(String),
    List(Vec<&'a RawValue>),
}

impl<'a> TextOrList<'a> {
    /// What `value` is, which stands at `at`.
    pub fn of(value: &'a RawValue, at: &str) -> Result<Self, ApiError> {
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

/// `error` of what the object at `at` has.
fn within(at: &str, mut error: ApiError) -> ApiError {
    let param = match &error.param {
        Some(field) => format!("{at}.{field}"),
        None => at.into(),
    };
    error.message = format!("in {at}: {}", error.message);
    error.of(param)
}
