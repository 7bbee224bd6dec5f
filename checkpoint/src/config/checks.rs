//! The rules of config.json that concern one or several fields.

use super::architecture::Architecture;
use super::chain_widths::{self, ChainWidths};
use super::chains::{Chains, Split};
use super::error::{invalid, ConfigError};
use super::file::ConfigFile;
use super::limits::{MAX_LAYERS, MAX_POSITIONS, MAX_SIZE};
use super::ranges::{check_size, positive};

/// Checks the fields that are names and returns the architecture.
pub(super) fn check_names(file: &ConfigFile) -> Result<Architecture, ConfigError> {
    let architecture = match file.architectures.as_slice() {
        [one] if one == Architecture::Colm.name() => Architecture::Colm,
        [one] if one == Architecture::ColmAir.name() => Architecture::ColmAir,
        _ => return Err(ConfigError::Architecture(file.architectures.clone())),
    };
    if file.model_type != architecture.model_type() {
        return Err(invalid(
            "model_type",
            &file.model_type,
            format!("{} has model_type \"{}\"", architecture.name(), architecture.model_type()),
        ));
    }
    if file.hidden_act != "silu" {
        return Err(invalid("hidden_act", &file.hidden_act, "only \"silu\" is defined for CoLM"));
    }
    if file.other.get("rope_parameters").is_some_and(|value| !value.is_null()) {
        return Err(invalid("rope_parameters", "{..}", "expected `rope_theta` and `rope_scaling`"));
    }
    Ok(architecture)
}

/// Checks each size by itself.
pub(super) fn check_sizes(file: &ConfigFile) -> Result<(), ConfigError> {
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
            check_size(field, size, most)?;
        }
    }
    for (field, value) in [("rms_norm_eps", file.rms_norm_eps), ("rope_theta", file.rope_theta)] {
        positive(field, Some(value))?;
    }
    if let Some(head_dim) = file.head_dim {
        let columns =
            file.num_attention_heads.max(file.num_key_value_heads.unwrap_or(1)) * head_dim;
        if columns > MAX_SIZE {
            return Err(invalid(
                "head_dim",
                &head_dim,
                format!("expected at most {MAX_SIZE} when multiplied by the number of heads"),
            ));
        }
    }
    Ok(())
}

/// The head dimension, explicit or by default.
pub(super) fn head_dim(file: &ConfigFile) -> Result<usize, ConfigError> {
    let head_dim = match file.head_dim {
        Some(head_dim) => head_dim,
        None if file.hidden_size.is_multiple_of(file.num_attention_heads) => {
            file.hidden_size / file.num_attention_heads
        }
        None => {
            return Err(invalid(
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
        return Err(invalid("head_dim", &head_dim, "RoPE rotates halves: expected an even number"));
    }
    Ok(head_dim)
}

/// The key/value heads of each chain. In CoLM-Air the query heads of every chain are a multiple of them; in CoLM query
/// heads may share them in unequal groups.
pub(super) fn split_kv_heads(
    file: &ConfigFile,
    architecture: Architecture,
    chains: &Chains,
    widths: &ChainWidths,
    heads: &Split,
) -> Result<Split, ConfigError> {
    let kv = file.num_key_value_heads.unwrap_or(file.num_attention_heads);
    let (field, shares) = ("num_key_value_heads", widths.num_key_value_heads.as_deref());
    if architecture == Architecture::Colm {
        return chain_widths::split(chains, field, kv, shares);
    }
    let kv_heads = chain_widths::all_in_first(chains, field, kv, shares)?;
    match (0..chains.count()).find(|&i| !heads.of(i).is_multiple_of(kv)) {
        None => Ok(kv_heads),
        Some(i) => Err(invalid(
            "num_attention_heads",
            &file.num_attention_heads,
            format!(
                "chain {} has {} heads, expected a multiple of the {kv} key/value heads it reads",
                i + 1,
                heads.of(i)
            ),
        )),
    }
}
