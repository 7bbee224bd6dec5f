//! The model at one chain as a Llama.

use serde_json::{json, Value};

use super::extract::extract;
use super::plan::ConversionPlan;
use crate::config::ChainCount;
use crate::format::{CheckpointError, Layout};
use crate::read::Source;

/// The first chain of `source` as a plain LlamaForCausalLM checkpoint. A CoLM of one chain is a Llama
/// (`docs/spec.md#chains`), so only the config differs from [`extract`].
///
/// # Errors
/// If the config cannot be written as JSON.
pub fn as_llama(source: &Source) -> Result<ConversionPlan, CheckpointError> {
    let mut plan = extract(source, ChainCount::ONE, Layout::Dense)?;
    let mut config: Value = serde_json::from_str(&plan.config).map_err(CheckpointError::Json)?;
    config["architectures"] = json!(["LlamaForCausalLM"]);
    config["model_type"] = json!("llama");
    if let Some(fields) = config.as_object_mut() {
        fields.remove("chains");
    }
    plan.config = serde_json::to_string_pretty(&config).map_err(CheckpointError::Json)?;
    Ok(plan)
}
