//! Values in a body that have several forms.

use colm_checkpoint::abbreviate;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::serve::error::ApiError;
use crate::serve::fields::Fields;

/// The field `type` of an object.
#[derive(Debug, Deserialize)]
pub struct Kind {
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

impl Kind {
    /// The type for error messages.
    pub fn type_name(&self) -> String {
        abbreviate(self.kind.as_deref().unwrap_or("null")).into_owned()
    }
}

/// Parses the object `value`, at `path` in the body, with `read`. A field that is null counts as absent. A field that
/// `read` does not take is an error.
pub fn object<T>(
    value: &RawValue,
    path: &str,
    read: impl FnOnce(Kind, &mut Fields) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    if !value.get().starts_with('{') {
        return Err(bad_type(path, "an object"));
    }
    let read = || {
        let mut fields = Fields::parse(value.get().as_bytes())?;
        let object = read(fields.take()?, &mut fields)?;
        fields.finish()?;
        Ok(object)
    };
    read().map_err(|error| in_object(path, error))
}

/// A text or a list.
pub enum TextOrList<'a> {
    Text(String),
    List(Vec<&'a RawValue>),
}

impl<'a> TextOrList<'a> {
    /// Parses `value`. `path` is its path in the body.
    pub fn parse(value: &'a RawValue, path: &str) -> Result<Self, ApiError> {
        if let Ok(text) = serde_json::from_str(value.get()) {
            return Ok(Self::Text(text));
        }
        let list = serde_json::from_str(value.get()).map(Self::List);
        list.map_err(|_| bad_type(path, "a string or a list of objects"))
    }
}

fn bad_type(path: &str, expected: &str) -> ApiError {
    ApiError::invalid_value(path, format!("{path}: expected {expected}")).with_code("invalid_type")
}

/// Prefixes the field of `error` with `path`.
fn in_object(path: &str, mut error: ApiError) -> ApiError {
    let param = match &error.param {
        Some(field) => format!("{path}.{field}"),
        None => path.into(),
    };
    error.message = format!("in {path}: {}", error.message);
    error.with_param(param)
}
