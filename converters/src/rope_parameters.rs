//! RoPE as transformers 5 writes it: base and rescaling in one field.

use serde::Deserialize;

use crate::config_error::{refuse, ConfigError};
use crate::config_file::{ConfigFile, RopeScaling};

/// The field's name.
const FIELD: &str = "rope_parameters";

/// `file` with what `rope_parameters` says in the older fields, `rope_theta` and `rope_scaling`. Where both are
/// given they must agree.
pub(crate) fn with_older_fields(mut file: ConfigFile) -> Result<ConfigFile, ConfigError> {
    let Some(parameters) = file.other.remove(FIELD).filter(|value| !value.is_null()) else {
        return Ok(file);
    };
    let Some(mut fields) = parameters.as_object().cloned() else {
        return Err(refuse(FIELD, &parameters, "expected a map, or null"));
    };
    if fields.values().any(|value| value.is_object()) {
        let expected = "CoLM has one RoPE for all layers; expected `rope_theta` and `rope_type` directly in it";
        return Err(refuse(FIELD, &parameters, expected));
    }
    if let Some(base) = fields.remove("rope_theta").filter(|base| !base.is_null()) {
        let expected = "expected a number";
        let base =
            base.as_f64().ok_or_else(|| refuse("rope_parameters.rope_theta", &base, expected))?;
        agree("rope_theta", &file.rope_theta, &base, file.rope_theta == ConfigFile::ROPE_THETA)?;
        file.rope_theta = base;
    }
    if let Some(fraction) = fields.remove("partial_rotary_factor") {
        if fraction.as_f64() != Some(1.) {
            let expected = "CoLM rotates whole heads; expected none, or 1.0";
            return Err(refuse("rope_parameters.partial_rotary_factor", &fraction, expected));
        }
    }
    if fields.contains_key("rope_type") || fields.contains_key("type") {
        let scaling = RopeScaling::deserialize(&parameters)
            .map_err(|error| refuse(FIELD, &parameters, error.to_string()))?;
        let given = file.rope_scaling.as_ref().unwrap_or(&scaling);
        agree("rope_scaling", &format!("{given:?}"), &format!("{scaling:?}"), false)?;
        file.rope_scaling = Some(scaling);
    }
    Ok(file)
}

fn agree<T: PartialEq + ToString>(
    field: &'static str,
    given: &T,
    parameter: &T,
    is_default: bool,
) -> Result<(), ConfigError> {
    if given == parameter || is_default {
        return Ok(());
    }
    let expected = format!("`{FIELD}` says {}; expected the same", parameter.to_string());
    Err(refuse(field, given, expected))
}
