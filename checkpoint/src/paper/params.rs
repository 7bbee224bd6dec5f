//! params.json, as the config of a CoLM.

use serde_json::Value;

use super::fields::{is_known, MUST_BE_FALSE, TIED, USED, WITHOUT_EFFECT};
use super::numbers::{flag, positive, size};
use super::rope::rope_scaling;
use super::widths::Widths;
use crate::config::{
    invalid, Architecture, ColmConfig, ConfigError, ConfigFile, Fields, MAX_POSITIONS,
};
use crate::json::parse_text;

/// The config of a model in the paper's conventions.
pub(crate) const PARAMS_FILE: &str = "params.json";

/// The default of `norm_eps` in TorchTitan and in Meta's Llama.
const NORM_EPS: f64 = 1e-5;
/// The default of `max_seq_len` in TorchTitan and in Meta's Llama.
const MAX_SEQ_LEN: usize = 2048;

/// The config that the text of a params.json describes. Errors name its fields.
pub(crate) fn parse_params(json: &str) -> Result<ColmConfig, ConfigError> {
    let fields: Fields = parse_text(json)?;
    check_fields(&fields)?;
    let architecture = match flag(&fields, "kv_sharing")? {
        Some(true) => Architecture::ColmAir,
        Some(false) | None => Architecture::Colm,
    };
    let widths = Widths::of(&fields, architecture)?;
    let file = ConfigFile {
        vocab_size: widths.vocab_size,
        hidden_size: widths.dim,
        intermediate_size: widths.hidden_dim,
        num_hidden_layers: widths.n_layers,
        num_attention_heads: widths.n_heads,
        num_key_value_heads: Some(widths.n_kv_heads),
        head_dim: Some(widths.head_dim),
        max_position_embeddings: size(&fields, "max_seq_len", MAX_POSITIONS)?
            .unwrap_or(MAX_SEQ_LEN),
        rms_norm_eps: positive(&fields, "norm_eps")?.unwrap_or(NORM_EPS),
        rope_theta: rope_theta(&fields)?,
        rope_scaling: rope_scaling(&fields)?,
        tie_word_embeddings: is_tied(&fields)?,
        ..ConfigFile::new(architecture, widths.chains.ratios().to_vec())
    };
    ColmConfig::new(file).map_err(as_written)
}

/// Fails for a field that is unknown, or that says something these conventions do not have.
fn check_fields(fields: &Fields) -> Result<(), ConfigError> {
    let null = Value::Null;
    if let Some(field) = fields.names().find(|field| !is_known(field)) {
        let known = USED.join(", ");
        let expected = format!("the model has no such field; expected only {known}");
        return Err(invalid(field, fields.get(field).unwrap_or(&null), expected));
    }
    for field in MUST_BE_FALSE {
        if flag(fields, field)? == Some(true) {
            let expected = "these conventions have no biases and no norms of heads: expected false";
            return Err(invalid(field, "true", expected));
        }
    }
    for field in WITHOUT_EFFECT {
        if let Some(value) =
            fields.get(field).filter(|value| !value.is_number() && !value.is_boolean())
        {
            return Err(invalid(field, value, "expected a number, true or false"));
        }
    }
    check_name(fields, "attn_mask_type", &["causal"])?;
    // The three compute the same.
    check_name(fields, "norm_type", &["rmsnorm", "fused_rmsnorm", "compiled_rmsnorm"])
}

fn check_name(fields: &Fields, field: &str, names: &[&str]) -> Result<(), ConfigError> {
    match fields.get(field) {
        Some(value) if !names.iter().any(|name| value == name) => {
            Err(invalid(field, value, format!("expected \"{}\"", names.join("\" or \""))))
        }
        _ => Ok(()),
    }
}

fn rope_theta(fields: &Fields) -> Result<f64, ConfigError> {
    let expected =
        "expected the base of RoPE: without the field TorchTitan takes 10000 and Llama 3 500000";
    positive(fields, "rope_theta")?.ok_or_else(|| invalid("rope_theta", "absent", expected))
}

/// Whether the head shares the weights of the embedding.
fn is_tied(fields: &Fields) -> Result<bool, ConfigError> {
    let mut tied: Option<(&str, bool)> = None;
    for field in TIED {
        let Some(found) = flag(fields, field)? else { continue };
        match tied {
            Some((other, said)) if said != found => {
                return Err(invalid(
                    field,
                    &found,
                    format!("`{other}` is {said}; expected the same"),
                ))
            }
            _ => tied = Some((field, found)),
        }
    }
    Ok(tied.is_some_and(|(_, tied)| tied))
}

/// `error` with the field names of params.json.
fn as_written(error: ConfigError) -> ConfigError {
    match error {
        ConfigError::Value { field, value, expected } => {
            let field = match field.strip_prefix("rope_scaling.") {
                Some("factor") => "rope_scaling_args.scaling_factor".into(),
                Some(inner) => format!("rope_scaling_args.{inner}"),
                None => field,
            };
            ConfigError::Value { field, value, expected }
        }
        other => other,
    }
}
