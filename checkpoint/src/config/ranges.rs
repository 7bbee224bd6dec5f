//! Range checks of single numbers.

use super::error::{invalid, ConfigError};

pub(crate) fn check_size(field: &'static str, size: usize, most: usize) -> Result<(), ConfigError> {
    if (1..=most).contains(&size) {
        Ok(())
    } else {
        Err(invalid(field, &size, format!("expected 1 to {most}")))
    }
}

/// `value` if it is finite and larger than 0.
pub(super) fn positive(field: &'static str, value: Option<f64>) -> Result<f64, ConfigError> {
    match value {
        Some(value) if value.is_finite() && value > 0. => Ok(value),
        Some(value) => Err(invalid(field, &value, "expected a positive number")),
        None => Err(invalid(field, "absent", "expected a positive number")),
    }
}
