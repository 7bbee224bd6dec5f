//! What the fields of a config may say, one by one and together.

use crate::chains::{Chains, Split};
use crate::config::Llama3Scaling;
use crate::config_error::{refuse, ConfigError};
use crate::config_file::{Architecture, ConfigFile, RopeScaling};

/// The largest value of any width in a config: far above any model, and small enough that a product
/// of two widths in bytes fits 64 bits.
pub(crate) const MAX_SIZE: usize = i32::MAX as usize;
/// The most layers: tens of times those of the deepest models.
const MAX_LAYERS: usize = 10_000;
/// The most positions: ten times those of the longest models.
const MAX_POSITIONS: usize = 100_000_000;

pub(crate) fn check_sizes(file: ConfigFile) -> Result<ConfigFile, ConfigError> {
    let sizes = [
        ("vocab_size", Some(file.vocab_size), MAX_SIZE),
        ("hidden_size", Some(file.hidden_size), MAX_SIZE),
        ("intermediate_size", Some(file.intermediate_size), MAX_SIZE),
        ("num_hidden_layers", Some(file.num_hidden_layers), MAX_LAYERS),
        ("num_attention_heads", Some(file.num_attention_heads), MAX_SIZE),
        ("num_key_value_heads", file.num_key_value_heads, MAX_SIZE),
        ("head_dim", file.head_dim, MAX_SIZE),
        ("max_position_embeddings", Some(file.max_position_embeddings), MAX_POSITIONS),
    ];
    for (field, size, most) in sizes {
        if let Some(size) = size {
            within(field, size, most)?;
        }
    }
    for (field, value) in [("rms_norm_eps", file.rms_norm_eps), ("rope_theta", file.rope_theta)] {
        positive(field, Some(value))?;
    }
    if let Some(head_dim) = file.head_dim {
        let columns =
            file.num_attention_heads.max(file.num_key_value_heads.unwrap_or(1)) * head_dim;
        if columns > MAX_SIZE {
            return Err(refuse(
                "head_dim",
                &head_dim,
                format!("expected at most {MAX_SIZE} when multiplied by the number of heads"),
            ));
        }
    }
    Ok(file)
}

pub(crate) fn head_dim(file: &ConfigFile) -> Result<usize, ConfigError> {
    let head_dim = match file.head_dim {
        Some(head_dim) => head_dim,
        None if file.hidden_size.is_multiple_of(file.num_attention_heads) => {
            file.hidden_size / file.num_attention_heads
        }
        None => {
            return Err(refuse(
                "hidden_size",
                &file.hidden_size,
                format!(
                    "expected a multiple of num_attention_heads = {}, or an explicit head_dim",
                    file.num_attention_heads
                ),
            ))
        }
    };
    if head_dim == 0 || !head_dim.is_multiple_of(2) {
        return Err(refuse("head_dim", &head_dim, "RoPE rotates halves: expected an even number"));
    }
    Ok(head_dim)
}

pub(crate) fn split_kv_heads(
    file: &ConfigFile,
    architecture: Architecture,
    chains: &Chains,
    heads: &Split,
) -> Result<Split, ConfigError> {
    let kv = file.num_key_value_heads.unwrap_or(file.num_attention_heads);
    let kv_heads = match architecture {
        Architecture::Colm => chains.split("num_key_value_heads", kv)?,
        Architecture::ColmAir => Split::all_in_first(kv, chains.count()),
    };
    for i in 0..chains.count() {
        let shared_by = kv_heads.of(architecture.kv_owner(i));
        if !heads.of(i).is_multiple_of(shared_by) {
            return Err(refuse(
                "num_attention_heads",
                &file.num_attention_heads,
                format!(
                    "chain {} has {} heads, expected a multiple of the {shared_by} key/value heads it reads",
                    i + 1,
                    heads.of(i)
                ),
            ));
        }
    }
    Ok(kv_heads)
}

pub(crate) fn rope_scaling(file: &ConfigFile) -> Result<Option<Llama3Scaling>, ConfigError> {
    let Some(scaling) = &file.rope_scaling else {
        return Ok(None);
    };
    match scaling.rope_type.as_str() {
        "default" => Ok(None),
        "llama3" => llama3(scaling).map(Some),
        other => Err(refuse("rope_scaling.rope_type", other, "expected \"llama3\" or \"default\"")),
    }
}

fn llama3(scaling: &RopeScaling) -> Result<Llama3Scaling, ConfigError> {
    let low_freq_factor = positive("rope_scaling.low_freq_factor", scaling.low_freq_factor)?;
    let high_freq_factor = positive("rope_scaling.high_freq_factor", scaling.high_freq_factor)?;
    // Between the two wavelengths the rescaling interpolates over their difference.
    if high_freq_factor <= low_freq_factor {
        return Err(refuse(
            "rope_scaling.high_freq_factor",
            &high_freq_factor,
            format!("expected more than low_freq_factor = {low_freq_factor}"),
        ));
    }
    let field = "rope_scaling.original_max_position_embeddings";
    let original = scaling
        .original_max_position_embeddings
        .ok_or_else(|| refuse(field, "absent", "expected a positive number"))?;
    within(field, original, MAX_POSITIONS)?;
    Ok(Llama3Scaling {
        factor: positive("rope_scaling.factor", scaling.factor)?,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings: original,
    })
}

fn within(field: &'static str, size: usize, most: usize) -> Result<(), ConfigError> {
    match (1..=most).contains(&size) {
        true => Ok(()),
        false => Err(refuse(field, &size, format!("expected 1 to {most}"))),
    }
}

fn positive(field: &'static str, value: Option<f64>) -> Result<f64, ConfigError> {
    match value {
        Some(value) if value.is_finite() && value > 0. => Ok(value),
        Some(value) => Err(refuse(field, &value, "expected a positive number")),
        None => Err(refuse(field, "absent", "expected a positive number")),
    }
}
