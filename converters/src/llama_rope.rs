//! The ways in which configs of the Llama family write RoPE's base and rescaling.

use serde_json::{json, Value};

use crate::config::{refuse, ConfigError};
use crate::json_file::JsonError;
use crate::llama::{same, Fields};

/// Where a config has RoPE's base and rescaling.
pub(crate) struct RopeFields {
    /// Whether the field of SPEC 3 is written within `rope_parameters` alone.
    theta_in_parameters: bool,
    scaling_in_parameters: bool,
}

impl RopeFields {
    /// Of a config as it is written.
    pub fn of(fields: &Fields) -> Self {
        let parameters = fields.get("rope_parameters");
        let base = parameters.and_then(|parameters| parameters.get("rope_theta"));
        Self {
            theta_in_parameters: base.is_some() && fields.get("rope_theta").is_none(),
            scaling_in_parameters: parameters.is_some() && fields.get("rope_scaling").is_none(),
        }
    }

    /// Leaves `rope_theta` and `rope_scaling` as SPEC 3 has them. transformers 5 writes both as
    /// `rope_parameters`; transformers 4 writes the type of the rescaling under one or two names.
    pub fn unite(fields: &mut Fields) -> Result<(), ConfigError> {
        if let Some(parameters) = fields.take("rope_parameters") {
            split_parameters(fields, parameters)?;
        }
        let Some(mut scaling) = fields.take("rope_scaling") else {
            return Ok(());
        };
        let Some(entries) = scaling.as_object_mut() else {
            return Err(refuse("rope_scaling", &scaling, "expected a map, or null"));
        };
        if let Some(older) = entries.remove("type") {
            let newer = entries.entry("rope_type").or_insert_with(|| older.clone());
            if *newer != older {
                let expected = format!("`rope_type` is {newer}; expected the same");
                return Err(refuse("rope_scaling.type", &older, expected));
            }
        }
        match entries.get("rope_type") {
            // The base alone, which `rope_theta` has.
            Some(kind) if kind == "default" => {}
            Some(_) => fields.set("rope_scaling", scaling),
            None => {
                let expected = "expected \"llama3\" or \"default\"";
                return Err(refuse("rope_scaling.rope_type", "absent", expected));
            }
        }
        Ok(())
    }

    /// `error`, which names fields of SPEC 3, with the names that the config has.
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

fn split_parameters(fields: &mut Fields, parameters: Value) -> Result<(), ConfigError> {
    let Value::Object(mut parameters) = parameters else {
        return Err(refuse("rope_parameters", &parameters, "expected a map, or null"));
    };
    if parameters.values().any(Value::is_object) {
        let parameters = Value::Object(parameters);
        return Err(refuse(
            "rope_parameters",
            &parameters,
            "CoLM has one RoPE for all layers; expected `rope_theta` and `rope_type` directly in it",
        ));
    }
    let fraction = parameters.remove("partial_rotary_factor");
    if let Some(fraction) = fraction.filter(|fraction| !fraction.is_null()) {
        if fraction.as_f64() != Some(1.) {
            let expected = "CoLM rotates whole heads; expected 1.0 or no such field";
            return Err(refuse("rope_parameters.partial_rotary_factor", &fraction, expected));
        }
    }
    if let Some(base) = parameters.remove("rope_theta") {
        agree(fields, "rope_theta", base)?;
    }
    if !parameters.contains_key("type") {
        parameters.entry("rope_type").or_insert_with(|| json!("default"));
    }
    agree(fields, "rope_scaling", Value::Object(parameters))
}

/// Sets `field`, unless it is there already with another value.
fn agree(fields: &mut Fields, field: &'static str, value: Value) -> Result<(), ConfigError> {
    match fields.get(field) {
        Some(other) if !same(other, &value) => {
            Err(refuse(field, other, format!("`rope_parameters` says {value}; expected the same")))
        }
        _ => {
            fields.set(field, value);
            Ok(())
        }
    }
}
