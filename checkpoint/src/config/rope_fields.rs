//! The ways in which config.json may write RoPE's base and rescaling, brought into one.

use serde_json::{json, Value};

use super::error::{invalid, ConfigError};
use super::fields::{same_value, Fields};
use crate::json::JsonError;

/// The maps in which a config may write the rescaling, and with it the base.
const MAPS: [&str; 2] = ["rope_scaling", "rope_parameters"];

/// Where a config writes RoPE's base and rescaling. Checks run on `rope_theta` and `rope_scaling`;
/// this restores the names that the file uses in their errors.
pub(crate) struct RopeFields {
    /// The map that alone has the base.
    theta_in: Option<&'static str>,
    /// Whether the rescaling is written in `rope_parameters` only.
    scaling_in_parameters: bool,
}

impl RopeFields {
    /// The places in a config as written, before [`Self::normalize`].
    pub fn of(fields: &Fields) -> Self {
        let has_base = |map: &&str| fields.get(map).and_then(|map| map.get("rope_theta")).is_some();
        let theta_in = MAPS.into_iter().find(has_base);
        Self {
            theta_in: theta_in.filter(|_| fields.get("rope_theta").is_none()),
            scaling_in_parameters: fields.get("rope_parameters").is_some()
                && fields.get("rope_scaling").is_none(),
        }
    }

    /// Rewrites `fields` to `rope_theta` and `rope_scaling.rope_type`. transformers 5 writes both as
    /// `rope_parameters`; transformers 4 writes the type as `type`, `rope_type` or both, and reads a
    /// base in either map.
    pub fn normalize(fields: &mut Fields) -> Result<(), ConfigError> {
        if let Some(fraction) = fields.take(PARTIAL) {
            check_whole_heads(PARTIAL, &fraction)?;
        }
        for map in MAPS {
            move_base(fields, map)?;
        }
        if let Some(mut parameters) = fields.take("rope_parameters") {
            if parameters.get("type").is_none() && parameters.get("rope_type").is_none() {
                parameters["rope_type"] = json!("default");
            }
            set_or_compare(fields, "rope_scaling", parameters, "rope_parameters")?;
        }
        let Some(mut scaling) = fields.take("rope_scaling") else {
            return Ok(());
        };
        if let Some(older) = scaling.as_object_mut().and_then(|scaling| scaling.remove("type")) {
            match scaling.get("rope_type") {
                Some(newer) if *newer != older => {
                    let expected = format!("`rope_type` is {newer}; expected the same");
                    return Err(invalid("rope_scaling.type", &older, expected));
                }
                _ => scaling["rope_type"] = older,
            }
        }
        match scaling.get("rope_type") {
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
            None if field == "rope_theta" => match self.theta_in {
                Some(map) => format!("{map}.rope_theta"),
                None => field,
            },
            _ => field,
        }
    }
}

/// The share of a head that is rotated, in other models.
const PARTIAL: &str = "partial_rotary_factor";

/// Moves the base that `map` has to `rope_theta`, and checks that `map` describes one RoPE for whole heads.
fn move_base(fields: &mut Fields, map: &'static str) -> Result<(), ConfigError> {
    let Some(written) = fields.take(map) else { return Ok(()) };
    let Value::Object(mut entries) = written else {
        return Err(invalid(map, &written, "expected a map, or null"));
    };
    if entries.values().any(Value::is_object) {
        let expected = "CoLM has one RoPE for all layers; expected `rope_theta` and `rope_type` directly in it";
        return Err(invalid(map, &Value::Object(entries), expected));
    }
    if let Some(fraction) = entries.remove(PARTIAL).filter(|fraction| !fraction.is_null()) {
        check_whole_heads(&format!("{map}.{PARTIAL}"), &fraction)?;
    }
    if let Some(base) = entries.remove("rope_theta").filter(|base| !base.is_null()) {
        set_or_compare(fields, "rope_theta", base, map)?;
    }
    fields.set(map, Value::Object(entries));
    Ok(())
}

fn check_whole_heads(field: &str, fraction: &Value) -> Result<(), ConfigError> {
    if fraction.as_f64() == Some(1.) {
        return Ok(());
    }
    Err(invalid(field, fraction, "CoLM rotates whole heads; expected 1.0 or no such field"))
}

/// Sets `field` to `value`, which `map` says. If it is set already, the values must be equal.
fn set_or_compare(
    fields: &mut Fields,
    field: &'static str,
    value: Value,
    map: &str,
) -> Result<(), ConfigError> {
    match fields.get(field) {
        Some(other) if !same_value(other, &value) => {
            Err(invalid(field, other, format!("`{map}` says {value}; expected the same")))
        }
        _ => {
            fields.set(field, value);
            Ok(())
        }
    }
}
