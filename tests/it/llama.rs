//! A model of one chain gives the same logits as the host's own Llama with the same weights.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use colm::Quantization;
use colm_testing::comparison::largest_magnitude;
use colm_testing::engine::{chain_count, engine, options};
use colm_testing::host_llama;
use colm_testing::random_model::{self, token_ids, with};
use mistralrs_core::{
    Constraint, MistralRs, ModelDType, NormalRequest, Request, RequestMessage, Response,
    SamplingParams,
};
use serde_json::{json, Value};

pub async fn host_logits(host: &MistralRs, tokens: Vec<u32>) -> Tensor {
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

async fn assert_one_chain_equals_the_hosts_llama(config: Value) {
    let folder = tempfile::tempdir().unwrap();
    host_llama::write_both(folder.path(), &config);
    let tokens = token_ids(100);
    let llama =
        host_llama::engine(&folder.path().join("llama"), ModelDType::F32, None, 1).await.unwrap();
    let expected = host_logits(&llama, tokens.clone()).await;
    let options = options(&folder.path().join("colm")).prefix_cache(false);
    let found = engine(&options).await.logits(tokens, chain_count(1)).await.unwrap();
    let difference = (expected.to_dtype(DType::F32).unwrap() - found).unwrap();
    let difference = largest_magnitude(difference.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    assert!(difference <= 1e-4, "logits differ by {difference}");
}

fn one_chain(config: Value) -> Value {
    with(config, |json| {
        json["chains"] = json!([1]);
        // The host's Llama has no head_dim field: hidden_size / num_attention_heads.
        json["head_dim"] = json!(8);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn grouped_query_attention() {
    assert_one_chain_equals_the_hosts_llama(one_chain(random_model::air())).await;
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
    assert_one_chain_equals_the_hosts_llama(config).await;
}

/// Folders as transformers writes them load as they are.
#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_a_llama_or_qwen_is_a_model_of_one_chain() {
    let tied = |json: &mut Value| json["tie_word_embeddings"] = json!(true);
    let biased = |json: &mut Value| json["attention_bias"] = json!(true);
    let qwen = |json: &mut Value| {
        (json["model_type"], json["architectures"]) = (json!("qwen2"), json!(["Qwen2ForCausalLM"]));
        json.as_object_mut().unwrap().remove("attention_bias");
    };
    let plain = one_chain(random_model::air());
    let cases =
        [(plain.clone(), false), (with(plain.clone(), tied), false), (with(plain, biased), true)];
    for (config, is_qwen) in cases {
        let folder = tempfile::tempdir().unwrap();
        host_llama::write_both(folder.path(), &config);
        let [llama, colm] = ["llama", "colm"].map(|name| folder.path().join(name));
        if is_qwen {
            // Its o has no bias.
            let is_o_bias = |name: &str| name.contains("o_proj") && name.ends_with("bias");
            change_tensors(&llama.join("model.safetensors"), |name, tensor| {
                (!is_o_bias(name)).then_some(tensor)
            });
            change_tensors(&colm.join("model-chain-00001-of-00001.safetensors"), |name, tensor| {
                Some(if is_o_bias(name) { tensor.zeros_like().unwrap() } else { tensor })
            });
            let config = std::fs::read_to_string(llama.join("config.json")).unwrap();
            let config = with(serde_json::from_str(&config).unwrap(), qwen);
            std::fs::write(llama.join("config.json"), config.to_string()).unwrap();
        }
        let plan = options(&llama).memory_plan().unwrap();
        assert_eq!((plan.chains, plan.fits()), (chain_count(1), true));
        // colm's kernels quantize to the first type, the host to the second.
        for quantization in [None, Some("q8_0"), Some("q8_1")] {
            let quantization = quantization.map(|name| name.parse::<Quantization>().unwrap());
            let logits = async |folder: &Path| {
                let options = options(folder).quantization(quantization).prefix_cache(false);
                let logits = engine(&options).await.logits(token_ids(50), chain_count(1)).await;
                logits.unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            assert_eq!(logits(&llama).await, logits(&colm).await, "{quantization:?}");
        }
    }
}

fn change_tensors(file: &Path, change: impl Fn(&str, Tensor) -> Option<Tensor>) {
    let tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
    let changed = tensors.into_iter().filter_map(|(name, tensor)| {
        let tensor = change(&name, tensor)?;
        Some((name, tensor))
    });
    candle_core::safetensors::save(&changed.collect::<HashMap<_, _>>(), file).unwrap();
}
