//! Values within a body that have several forms.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::error::Refusal;
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
    read: impl FnOnce(Kind, &mut Fields) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    if !value.get().starts_with('{') {
        return Err(bad_type(at, "an object"));
    }
    let read = || {
        let mut fields = Fields::of(value.get().as_bytes())?;
        let object = read(fields.take()?, &mut fields)?;
        fields.finish()?;
        Ok(object)
    };
    read().map_err(|refusal| within(at, refusal))
}

/// A text, or a list.
pub enum TextOrList<'a> {
    Text(String),
    List(Vec<&'a RawValue>),
}

impl<'a> TextOrList<'a> {
    /// What `value` is, which stands at `at`.
    pub fn of(value: &'a RawValue, at: &str) -> Result<Self, Refusal> {
        if let Ok(text) = serde_json::from_str(value.get()) {
            return Ok(Self::Text(text));
        }
        let list = serde_json::from_str(value.get()).map(Self::List);
        list.map_err(|_| bad_type(at, "a string or a list of objects"))
    }
}

fn bad_type(at: &str, expected: &str) -> Refusal {
    Refusal::value(at, format!("{at}: expected {expected}")).coded("invalid_type")
}

/// `refusal` of what the object at `at` has.
fn within(at: &str, mut refusal: Refusal) -> Refusal {
    let param = match &refusal.param {
        Some(field) => format!("{at}.{field}"),
        None => at.into(),
    };
    refusal.message = format!("in {at}: {}", refusal.message);
    refusal.of(param)
}
