//! The model at one chain as a Llama.

use serde_json::{json, Value};

use super::extract::extract;
use super::plan::ConversionPlan;
use crate::config::{invalid, ChainCount};
use crate::format::{CheckpointError, Layout};
use crate::read::Source;

/// The first chain of `source` as a plain LlamaForCausalLM checkpoint, or as a Qwen3ForCausalLM if it has q/k norms. A
/// CoLM of one chain is such a model (`docs/spec.md#chains`), so only the config differs from [`extract`].
///
/// # Errors
/// If the config cannot be written as JSON, if the query heads are not a multiple of the key/value heads, as in a Llama,
/// or if the model has both q/k norms and biases in its MLP, which Qwen3 does not have.
pub fn as_llama(source: &Source) -> Result<ConversionPlan, CheckpointError> {
    let mut plan = extract(source, ChainCount::ONE, Layout::Dense)?;
    let mut config: Value = serde_json::from_str(&plan.config).map_err(CheckpointError::Json)?;
    let (file, heads) = (&source.config().file, source.config().heads.of(0));
    let kv_heads = source.config().kv_heads.of(0);
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!(
            "chain 1 has {heads}; a Llama needs a multiple of the {kv_heads} key/value heads"
        );
        return Err(invalid("num_attention_heads", &file.num_attention_heads, expected).into());
    }
    let (architecture, model_type) = if file.qk_norm {
        if file.mlp_bias {
            let expected = "Qwen3 has q/k norms and no such biases; expected false";
            return Err(invalid("mlp_bias", "true", expected).into());
        }
        ("Qwen3ForCausalLM", "qwen3")
    } else {
        ("LlamaForCausalLM", "llama")
    };
    config["architectures"] = json!([architecture]);
    config["model_type"] = json!(model_type);
    if let Some(fields) = config.as_object_mut() {
        for field in ["chains", "chain_widths", "qk_norm"] {
            fields.remove(field);
        }
    }
    plan.config = serde_json::to_string_pretty(&config).map_err(CheckpointError::Json)?;
    Ok(plan)
}
