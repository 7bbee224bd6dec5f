//! A CoLM of one chain is a Llama (SPEC 1): the same weights under Llama's own config.

use serde_json::{json, Value};

use super::extract;
use crate::chain_count::ChainCount;
use crate::error::CheckpointError;
use crate::layout::Layout;
use crate::plan::Plan;
use crate::source::Source;

/// The model of the first chain of `source` as a plain LlamaForCausalLM checkpoint.
pub fn as_llama(source: &Source) -> Result<Plan, CheckpointError> {
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
