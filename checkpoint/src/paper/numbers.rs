//! Reading single fields of params.json.

use serde_json::Value;

use crate::config::{check_size, invalid, ConfigError, Fields};

/// The whole number in `field`, from 1 to `most`; None if it is absent.
pub(super) fn size(
    fields: &Fields,
    field: &'static str,
    most: usize,
) -> Result<Option<usize>, ConfigError> {
    let Some(value) = fields.get(field) else { return Ok(None) };
    match value.as_u64().and_then(|size| usize::try_from(size).ok()) {
        Some(size) => check_size(field, size, most).map(|()| Some(size)),
        None => Err(invalid(field, value, format!("expected a whole number from 1 to {most}"))),
    }
}

/// As [`size`], for a field without a default.
pub(super) fn required_size(
    fields: &Fields,
    field: &'static str,
    most: usize,
    what: &str,
) -> Result<usize, ConfigError> {
    size(fields, field, most)?
        .ok_or_else(|| invalid(field, "absent", format!("expected {what}, a whole number")))
}

/// The positive number in `field`; None if it is absent.
pub(super) fn positive(fields: &Fields, field: &str) -> Result<Option<f64>, ConfigError> {
    let Some(value) = fields.get(field) else { return Ok(None) };
    match value.as_f64() {
        Some(number) if number.is_finite() && number > 0. => Ok(Some(number)),
        _ => Err(invalid(field, value, "expected a positive number")),
    }
}

/// The truth value in `field`; None if it is absent.
pub(super) fn flag(fields: &Fields, field: &str) -> Result<Option<bool>, ConfigError> {
    match fields.get(field) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(value) => Err(invalid(field, value, "expected true or false")),
    }
}
