//! Llama 3's rescaling of RoPE's frequencies.

use serde::{Deserialize, Serialize};

use super::error::{invalid, ConfigError};
use super::limits::MAX_POSITIONS;
use super::ranges::{check_size, positive};

/// `rope_scaling` in config.json, as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RopeScaling {
    /// "llama3", or "default" for no rescaling.
    #[serde(alias = "type")]
    pub rope_type: String,
    /// See [`Llama3Scaling::factor`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// See [`Llama3Scaling::low_freq_factor`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_freq_factor: Option<f64>,
    /// See [`Llama3Scaling::high_freq_factor`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_freq_factor: Option<f64>,
    /// See [`Llama3Scaling::original_max_position_embeddings`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_max_position_embeddings: Option<usize>,
}

/// The parameters of Llama 3's rescaling. All numbers are positive and finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3Scaling {
    /// The factor by which long wavelengths are stretched.
    pub factor: f64,
    /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are stretched.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are unchanged. Larger
    /// than `low_freq_factor`.
    pub high_freq_factor: f64,
    /// The context length of the model before rescaling, in tokens.
    pub original_max_position_embeddings: usize,
}

/// The checked parameters; None for plain RoPE.
pub(super) fn rope_scaling(
    written: Option<&RopeScaling>,
) -> Result<Option<Llama3Scaling>, ConfigError> {
    let Some(scaling) = written else {
        return Ok(None);
    };
    match scaling.rope_type.as_str() {
        "default" => Ok(None),
        "llama3" => llama3(scaling).map(Some),
        other => {
            Err(invalid("rope_scaling.rope_type", other, "expected \"llama3\" or \"default\""))
        }
    }
}

fn llama3(scaling: &RopeScaling) -> Result<Llama3Scaling, ConfigError> {
    let low_freq_factor = positive("rope_scaling.low_freq_factor", scaling.low_freq_factor)?;
    let high_freq_factor = positive("rope_scaling.high_freq_factor", scaling.high_freq_factor)?;
    // Between the two wavelengths the rescaling interpolates, and divides by their difference.
    if high_freq_factor <= low_freq_factor {
        return Err(invalid(
            "rope_scaling.high_freq_factor",
            &high_freq_factor,
            format!("expected more than low_freq_factor = {low_freq_factor}"),
        ));
    }
    let field = "rope_scaling.original_max_position_embeddings";
    let original = scaling
        .original_max_position_embeddings
        .ok_or_else(|| invalid(field, "absent", "expected a positive number"))?;
    check_size(field, original, MAX_POSITIONS)?;
    Ok(Llama3Scaling {
        factor: positive("rope_scaling.factor", scaling.factor)?,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings: original,
    })
}
