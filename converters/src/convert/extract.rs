//! The small model inside a big one.

use super::unchanged;
use crate::chain_count::ChainCount;
use crate::config::ColmConfig;
use crate::error::CheckpointError;
use crate::layout::Layout;
use crate::plan::Plan;
use crate::source::Source;

/// The model of the first `k` chains of `source` as a checkpoint of its own, in `layout`.
pub fn extract(source: &Source, k: ChainCount, layout: Layout) -> Result<Plan, CheckpointError> {
    let config = extracted_config(source.config(), k)?;
    Plan::new(&config, layout, &source.dense_kv(), unchanged(source))
}

/// The config of the first `k` chains: every width that is split is cut.
fn extracted_config(config: &ColmConfig, k: ChainCount) -> Result<ColmConfig, CheckpointError> {
    let k = config.chain_count(k.get())?.get();
    let mut file = config.file.clone();
    file.chains.truncate(k);
    file.hidden_size = config.hidden.first(k);
    file.intermediate_size = config.intermediate.first(k);
    file.num_attention_heads = config.heads.first(k);
    file.num_key_value_heads = Some(config.kv_heads.first(k));
    // The default, hidden_size / num_attention_heads, may have been another.
    file.head_dim = Some(config.head_dim);
    Ok(ColmConfig::new(file)?)
}
