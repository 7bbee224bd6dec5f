//! One chain is a Llama: the same weights in the host's own Llama give the same logits.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use colm::EngineOptions;
use mistralrs_core::{
    Constraint, DefaultSchedulerMethod, DeviceMapMetadata, DeviceMapSetting, MistralRs,
    MistralRsBuilder, ModelDType, NormalLoaderBuilder, NormalRequest, NormalSpecificConfig, Request,
    RequestMessage, Response, SamplingParams, SchedulerConfig, TokenSource,
};
use serde_json::{json, Value};

use crate::common::{engine, options};
use crate::random_model::{self, with, VOCAB};

/// The host's engine as it comes, without paging on the CPU.
async fn host_engine(folder: &Path) -> Arc<MistralRs> {
    let folder = folder.to_string_lossy().into_owned();
    let loader =
        NormalLoaderBuilder::new(NormalSpecificConfig::default(), None, None, Some(folder), false, None);
    let pipeline = tokio::task::block_in_place(|| {
        loader.build(None).unwrap().load_model_from_hf(
            None,
            TokenSource::None,
            &ModelDType::F32,
            &Device::Cpu,
            true,
            DeviceMapSetting::Map(DeviceMapMetadata::dummy()),
            None,
            None,
        )
    })
    .unwrap();
    let method = DefaultSchedulerMethod::Fixed(1.try_into().unwrap());
    let scheduler = SchedulerConfig::DefaultScheduler { method };
    MistralRsBuilder::new(pipeline, scheduler, false, None).with_no_prefix_cache(true).build().await
}

async fn host_logits(host: &MistralRs, tokens: Vec<u32>) -> Tensor {
    let (response, mut responses) = tokio::sync::mpsc::channel(1);
    let request = NormalRequest {
        return_raw_logits: true,
        constraint: Constraint::None,
        ..NormalRequest::new_simple(
            RequestMessage::CompletionTokens(tokens),
            SamplingParams { max_len: Some(1), ..SamplingParams::deterministic() },
            response,
            host.next_request_id(),
            None,
            None,
        )
    };
    host.get_sender(None).unwrap().send(Request::Normal(Box::new(request))).await.unwrap();
    match responses.recv().await.unwrap() {
        Response::Raw { logits_chunks, .. } => Tensor::cat(&logits_chunks, 0).unwrap(),
        _ => panic!("the host has no logits"),
    }
}

/// A chain-layout model of one chain, and the same tensors under Llama's names.
fn write_both(folder: &Path, config: &Value) {
    let chain = folder.join("colm");
    random_model::write(&chain, config, |_| 0);
    let llama = folder.join("llama");
    fs::create_dir(&llama).unwrap();
    let file = chain.join("model-chain-00001-of-00001.safetensors");
    let tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
    let renamed = tensors.into_iter().map(|(name, tensor)| (name.replace(".chains.0", ""), tensor));
    let renamed = renamed.collect::<std::collections::HashMap<_, _>>();
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

async fn one_chain_is_the_hosts_llama(config: Value) {
    let folder = tempfile::tempdir().unwrap();
    write_both(folder.path(), &config);
    let tokens: Vec<u32> = (0..100).map(|at| (1 + at * 11 % (VOCAB - 1)) as u32).collect();
    let llama = host_engine(&folder.path().join("llama")).await;
    let expected = host_logits(&llama, tokens.clone()).await;
    let options = EngineOptions { prefix_cache: false, ..options(&folder.path().join("colm")) };
    let found = engine(&options).await.logits(tokens, 1).await.unwrap();
    let difference = (expected.to_dtype(DType::F32).unwrap() - found).unwrap().abs().unwrap();
    let difference = difference.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    assert!(difference <= 1e-4, "logits differ by {difference}");
}

fn one_chain(config: Value) -> Value {
    with(config, |json| {
        json["chains"] = json!([1]);
        // The host's Llama knows no head_dim of its own.
        json["head_dim"] = json!(8);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn grouped_query_attention() {
    one_chain_is_the_hosts_llama(one_chain(random_model::air())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tied_embeddings_and_rope_scaling() {
    let config = with(one_chain(random_model::colm()), |json| {
        json["tie_word_embeddings"] = json!(true);
        json["rope_scaling"] = json!({
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32
        });
    });
    one_chain_is_the_hosts_llama(config).await;
}
