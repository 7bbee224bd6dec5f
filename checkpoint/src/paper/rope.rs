//! The rescaling of RoPE in params.json.

use serde_json::Value;

use super::numbers::flag;
use crate::config::{invalid, ConfigError, Fields, RopeScaling};

const FIELD: &str = "rope_scaling_args";
const FACTORS: [&str; 3] = ["scaling_factor", "low_freq_factor", "high_freq_factor"];
const ORIGINAL: &str = "original_max_position_embeddings";

/// TorchTitan's `rope_scaling_args`, which rescale as Llama 3.1 does.
pub(super) fn rope_scaling(fields: &Fields) -> Result<Option<RopeScaling>, ConfigError> {
    let is_scaled = flag(fields, "use_scaled_rope")?;
    match (is_scaled, fields.get(FIELD)) {
        (Some(false) | None, None) => Ok(None),
        (Some(true) | None, Some(arguments)) => parse(arguments).map(Some),
        (Some(true), None) => {
            let expected = format!(
                "the factor is 8 in Llama 3.1 and 32 in Llama 3.2; expected `{FIELD}` with {}, {ORIGINAL}",
                FACTORS.join(", ")
            );
            Err(invalid("use_scaled_rope", "true", expected))
        }
        (Some(false), Some(_)) => {
            let expected = format!("expected true, or no `{FIELD}`");
            Err(invalid("use_scaled_rope", "false", expected))
        }
    }
}

fn parse(arguments: &Value) -> Result<RopeScaling, ConfigError> {
    let Some(map) = arguments.as_object() else {
        return Err(invalid(FIELD, arguments, "expected a map"));
    };
    let is_known = |name: &str| FACTORS.contains(&name) || name == ORIGINAL;
    if let Some((name, value)) = map.iter().find(|(name, _)| !is_known(name)) {
        let expected = format!("expected only {}, {ORIGINAL}", FACTORS.join(", "));
        return Err(invalid(&format!("{FIELD}.{name}"), value, expected));
    }
    let [factor, low, high] = FACTORS.map(|name| match map.get(name) {
        Some(value) => match value.as_f64() {
            Some(number) => Ok(number),
            None => Err(invalid(&format!("{FIELD}.{name}"), value, "expected a positive number")),
        },
        None => Err(invalid(&format!("{FIELD}.{name}"), "absent", "expected a positive number")),
    });
    let original = map.get(ORIGINAL).map(|value| {
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.ok_or_else(|| {
            invalid(&format!("{FIELD}.{ORIGINAL}"), value, "expected a whole number")
        })
    });
    Ok(RopeScaling {
        rope_type: "llama3".into(),
        factor: Some(factor?),
        low_freq_factor: Some(low?),
        high_freq_factor: Some(high?),
        original_max_position_embeddings: original.transpose()?,
    })
}
