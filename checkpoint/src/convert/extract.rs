//! The first chains of a model as a checkpoint of their own.

use super::plan::{unchanged, ConversionPlan};
use crate::config::{ChainCount, ColmConfig};
use crate::format::{CheckpointError, Layout};
use crate::read::Source;

/// The model of the first `k` chains of `source` as a checkpoint of its own, in `layout`.
///
/// # Errors
/// If `k` is more than the number of chains of `source`, or, in the dense layout, if the chains of a tensor have different
/// dtypes.
pub fn extract(
    source: &Source,
    k: ChainCount,
    layout: Layout,
) -> Result<ConversionPlan, CheckpointError> {
    let config = extracted_config(source.config(), k)?;
    ConversionPlan::new(&config, layout, &source.dense_kv(), unchanged(source))
}

/// The config of the first `k` chains: every width is cut to theirs.
fn extracted_config(config: &ColmConfig, k: ChainCount) -> Result<ColmConfig, CheckpointError> {
    let k = config.chain_count(k.get())?.get();
    let mut file = config.file.clone();
    file.chains.truncate(k);
    if let Some(widths) = &mut file.chain_widths {
        widths.truncate(k);
    }
    file.hidden_size = config.hidden.first(k);
    file.intermediate_size = config.intermediate.first(k);
    file.num_attention_heads = config.heads.first(k);
    file.num_key_value_heads = Some(config.kv_heads.first(k));
    // The default, hidden_size / num_attention_heads, can change with k.
    file.head_dim = Some(config.head_dim);
    Ok(ColmConfig::new(file)?)
}
