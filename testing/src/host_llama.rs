//! The host's own Llama, and checkpoints for it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use mistralrs_core::{
    DefaultSchedulerMethod, MistralRs, MistralRsBuilder, ModelDType, NormalLoaderBuilder,
    NormalSpecificConfig, SchedulerConfig,
};
use mistralrs_quant::IsqType;
use serde_json::Value;

use crate::engine::load_with_host;
use crate::random_model::{self, llama_config};

/// The host's engine with the Llama in `folder`, without paged attention. At most `max_seqs` sequences run at once.
/// End-of-sequence tokens do not end an answer, and no prefix is reused.
pub async fn engine(
    folder: &Path,
    dtype: ModelDType,
    isq: Option<IsqType>,
    max_seqs: usize,
) -> anyhow::Result<Arc<MistralRs>> {
    let folder = folder.to_string_lossy().into_owned();
    let specific = NormalSpecificConfig::default();
    let loader = NormalLoaderBuilder::new(specific, None, None, Some(folder), false, None);
    let loader = loader.build(None)?;
    let pipeline = tokio::task::block_in_place(|| load_with_host(&*loader, dtype, isq, None))?;
    let method = DefaultSchedulerMethod::Fixed(max_seqs.try_into()?);
    let scheduler = SchedulerConfig::DefaultScheduler { method };
    Ok(MistralRsBuilder::new(pipeline, scheduler, false, None)
        .with_no_prefix_cache(true)
        .with_disable_eos_stop(true)
        .build()
        .await)
}

/// Writes a random model of one chain to `folder/colm` and the same tensors under Llama's names to `folder/llama`.
pub fn write_both(folder: &Path, config: &Value) {
    let chain = folder.join("colm");
    random_model::write(&chain, config, |_| 0);
    let llama = folder.join("llama");
    fs::create_dir(&llama).unwrap();
    let file = chain.join("model-chain-00001-of-00001.safetensors");
    let tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
    let renamed = tensors.into_iter().map(|(name, tensor)| (name.replace(".chains.0", ""), tensor));
    let renamed = renamed.collect::<HashMap<_, _>>();
    candle_core::safetensors::save(&renamed, llama.join("model.safetensors")).unwrap();
    fs::write(llama.join("config.json"), llama_config(config.clone()).to_string()).unwrap();
    for tokenizer in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(chain.join(tokenizer), llama.join(tokenizer)).unwrap();
    }
}
