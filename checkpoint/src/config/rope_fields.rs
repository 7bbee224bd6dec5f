//! The ways in which config.json may write RoPE's base and rescaling, brought into one.

use serde_json::{json, Value};

use super::error::{invalid, ConfigError};
use super::fields::{same_value, Fields};
use crate::json::JsonError;

/// Where a config writes RoPE's base and rescaling. Checks run on `rope_theta` and `rope_scaling`;
/// this restores the names that the file uses in their errors.
pub(crate) struct RopeFields {
    /// Whether the base is written in `rope_parameters` only.
    theta_in_parameters: bool,
    /// Whether the rescaling is written in `rope_parameters` only.
    scaling_in_parameters: bool,
}

impl RopeFields {
    /// The places in a config as written, before [`Self::normalize`].
    pub fn of(fields: &Fields) -> Self {
        let parameters = fields.get("rope_parameters");
        let base = parameters.and_then(|parameters| parameters.get("rope_theta"));
        Self {
            theta_in_parameters: base.is_some() && fields.get("rope_theta").is_none(),
            scaling_in_parameters: parameters.is_some() && fields.get("rope_scaling").is_none(),
        }
    }

    /// Rewrites `fields` to `rope_theta` and `rope_scaling.rope_type`. transformers 5 writes both as
    /// `rope_parameters`; transformers 4 writes the type as `type`, `rope_type` or both.
    pub fn normalize(fields: &mut Fields) -> Result<(), ConfigError> {
        if let Some(parameters) = fields.take("rope_parameters") {
            split_parameters(fields, parameters)?;
        }
        let Some(mut scaling) = fields.take("rope_scaling") else {
            return Ok(());
        };
        let Some(entries) = scaling.as_object_mut() else {
            return Err(invalid("rope_scaling", &scaling, "expected a map, or null"));
        };
        if let Some(older) = entries.remove("type") {
            let newer = entries.entry("rope_type").or_insert_with(|| older.clone());
            if *newer != older {
                let expected = format!("`rope_type` is {newer}; expected the same");
                return Err(invalid("rope_scaling.type", &older, expected));
            }
        }
        match entries.get("rope_type") {
            // No rescaling; the base is in `rope_theta`.
            Some(kind) if kind == "default" => {}
            Some(_) => fields.set("rope_scaling", scaling),
            None => {
                let expected = "expected \"llama3\" or \"default\"";
                return Err(invalid("rope_scaling.rope_type", "absent", expected));
            }
        }
        Ok(())
    }

    /// `error` with the field names that the config uses.
    pub fn name_as_written(&self, error: ConfigError) -> ConfigError {
        match error {
            ConfigError::Value { field, value, expected } => {
                ConfigError::Value { field: self.as_written(field), value, expected }
            }
            ConfigError::Json(JsonError::Field { field, what }) => {
                ConfigError::Json(JsonError::Field { field: self.as_written(field), what })
            }
            other => other,
        }
    }

    fn as_written(&self, field: String) -> String {
        match field.strip_prefix("rope_scaling") {
            Some(rest) if self.scaling_in_parameters => format!("rope_parameters{rest}"),
            _ if self.theta_in_parameters && field == "rope_theta" => {
                "rope_parameters.rope_theta".into()
            }
            _ => field,
        }
    }
}

/// Moves the entries of `rope_parameters` to `rope_theta` and `rope_scaling`.
fn split_parameters(fields: &mut Fields, parameters: Value) -> Result<(), ConfigError> {
    let Value::Object(mut parameters) = parameters else {
        return Err(invalid("rope_parameters", &parameters, "expected a map, or null"));
    };
    if parameters.values().any(Value::is_object) {
        let parameters = Value::Object(parameters);
        return Err(invalid(
            "rope_parameters",
            &parameters,
            "CoLM has one RoPE for all layers; expected `rope_theta` and `rope_type` directly in it",
        ));
    }
    let fraction = parameters.remove("partial_rotary_factor");
    if let Some(fraction) = fraction.filter(|fraction| !fraction.is_null()) {
        if fraction.as_f64() != Some(1.) {
            let expected = "CoLM rotates whole heads; expected 1.0 or no such field";
            return Err(invalid("rope_parameters.partial_rotary_factor", &fraction, expected));
        }
    }
    if let Some(base) = parameters.remove("rope_theta") {
        set_or_compare(fields, "rope_theta", base)?;
    }
    if !parameters.contains_key("type") {
        parameters.entry("rope_type").or_insert_with(|| json!("default"));
    }
    set_or_compare(fields, "rope_scaling", Value::Object(parameters))
}

/// Sets `field` to `value`. If it is set already, the values must be equal.
fn set_or_compare(
    fields: &mut Fields,
    field: &'static str,
    value: Value,
) -> Result<(), ConfigError> {
    match fields.get(field) {
        Some(other) if !same_value(other, &value) => {
            Err(invalid(field, other, format!("`rope_parameters` says {value}; expected the same")))
        }
        _ => {
            fields.set(field, value);
            Ok(())
        }
    }
}
