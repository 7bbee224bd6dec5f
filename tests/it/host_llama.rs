//! The host's own Llama, loaded as the host comes, and checkpoints for it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use mistralrs_core::{
    DefaultSchedulerMethod, MistralRs, MistralRsBuilder, NormalLoaderBuilder, NormalSpecificConfig,
    SchedulerConfig,
};
use serde_json::{json, Value};

use super::common::load_with_host;
use super::random_model::{self, with};

/// The host's engine as it comes, without paging on the CPU.
pub async fn engine(folder: &Path, max_seqs: usize) -> Arc<MistralRs> {
    let folder = folder.to_string_lossy().into_owned();
    let loader = NormalLoaderBuilder::new(
        NormalSpecificConfig::default(),
        None,
        None,
        Some(folder),
        false,
        None,
    );
    let pipeline =
        tokio::task::block_in_place(|| load_with_host(&*loader.build(None).unwrap(), None))
            .unwrap();
    let method = DefaultSchedulerMethod::Fixed(max_seqs.try_into().unwrap());
    let scheduler = SchedulerConfig::DefaultScheduler { method };
    MistralRsBuilder::new(pipeline, scheduler, false, None)
        .with_no_prefix_cache(true)
        .with_disable_eos_stop(true)
        .build()
        .await
}

/// A chain-layout model of one chain, and the same tensors under Llama's names.
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
    let config = with(config.clone(), |json| {
        json["architectures"] = json!(["LlamaForCausalLM"]);
        json["model_type"] = json!("llama");
        json["hidden_act"] = json!("silu");
        json["rope_theta"] = json!(10_000.0);
        json.as_object_mut().unwrap().remove("chains");
    });
    fs::write(llama.join("config.json"), config.to_string()).unwrap();
    for tokenizer in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(chain.join(tokenizer), llama.join(tokenizer)).unwrap();
    }
}
