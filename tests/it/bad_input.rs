//! Invalid models, options and requests fail with an error that names the problem and the expected value; none
//! panics.

use std::fs;
use std::path::Path;

use colm::{Engine, EngineBuilder, FinishReason, Prompt, Request};
use colm_testing::engine::{chain_count, engine, options, start_error};
use colm_testing::folders::{golden, model_folder};
use colm_testing::random_model::{self, with};
use serde_json::{json, Value};
use tempfile::TempDir;

async fn refused(options: &EngineBuilder, names: &[&str]) {
    let error = start_error(options).await;
    for name in names {
        assert!(error.contains(name), "`{name}` is missing in: {error}");
    }
}

fn model() -> TempDir {
    random_model::folder(&random_model::air())
}

async fn config_refused(change: impl FnOnce(&mut Value), names: &[&str]) {
    let folder = model();
    let folder = folder.path().join("model");
    fs::write(folder.join("config.json"), with(random_model::air(), change).to_string()).unwrap();
    refused(&options(&folder), names).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configs() {
    config_refused(|json| json["hidden_size"] = 66.into(), &["config.json", "hidden_size", "66"])
        .await;
    config_refused(|json| json["chains"] = json!([1, 0]), &["chains", "chain 2"]).await;
    config_refused(|json| json["num_key_value_heads"] = 3.into(), &["key/value heads"]).await;
    config_refused(|json| json["hidden_act"] = "gelu".into(), &["hidden_act", "gelu", "silu"])
        .await;
    config_refused(
        |json| drop(json.as_object_mut().unwrap().remove("rms_norm_eps")),
        &["rms_norm_eps"],
    )
    .await;
    config_refused(|json| json["vocab_size"] = "many".into(), &["vocab_size"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_that_do_not_match_the_files() {
    config_refused(|json| json["chains"] = json!([1, 1]), &["model-chain-0000", "of-00004"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files() {
    let folder = model();
    let folder = folder.path().join("model");
    let second = folder.join("model-chain-00002-of-00004.safetensors");
    let bytes = fs::read(&second).unwrap();

    fs::write(&second, &bytes[..bytes.len() / 2]).unwrap();
    refused(&options(&folder), &["model-chain-00002-of-00004.safetensors"]).await;
    fs::remove_file(&second).unwrap();
    refused(&options(&folder), &["model-chain-00002-of-00004.safetensors"]).await;
    let first = options(&folder).max_chains(1);
    engine(&first).await.logits(vec![1, 2, 3], chain_count(1)).await.unwrap();

    let no_such = options(&folder).max_chains(5);
    refused(&no_such, &["`max_chains` 5", "1 to 4"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_misshapen_tensor() {
    let folder = model();
    let folder = folder.path().join("model");
    let file = folder.join("model-chain-00003-of-00004.safetensors");
    let name = "model.layers.1.mlp.up_proj.chains.2.weight";
    let tensors = candle_core::safetensors::load(&file, &candle_core::Device::Cpu).unwrap();

    let mut fewer = tensors.clone();
    fewer.remove(name);
    candle_core::safetensors::save(&fewer, &file).unwrap();
    refused(&options(&folder), &[name, "model-chain-00003-of-00004.safetensors"]).await;

    let mut turned = tensors;
    let tensor = turned[name].t().unwrap().contiguous().unwrap();
    turned.insert(name.into(), tensor);
    candle_core::safetensors::save(&turned, &file).unwrap();
    refused(&options(&folder), &[name, "[24, 48]", "[48, 24]"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonzero_block_above_the_diagonal() {
    let folder = model_folder(&golden().join("colm-2-1-1-gqa-dense"));
    let file = folder.path().join("model.safetensors");
    let name = "model.layers.1.mlp.gate_proj.weight";
    let mut tensors = candle_core::safetensors::load(&file, &candle_core::Device::Cpu).unwrap();
    let full = tensors[name].ones_like().unwrap();
    tensors.insert(name.into(), full);
    candle_core::safetensors::save(&tensors, &file).unwrap();
    refused(&options(folder.path()), &[name, "zero"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_folder() {
    refused(&Engine::builder("no-such-folder"), &["no-such-folder", "folder", "owner/name"]).await;
    let empty = tempfile::tempdir().unwrap();
    refused(&options(empty.path()), &[&*empty.path().to_string_lossy()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kv_pool_too_small_for_one_block() {
    let folder = random_model::folder(&with(random_model::air(), |json| {
        json["num_hidden_layers"] = 8.into();
        json["head_dim"] = 256.into();
    }));
    let options = options(&folder.path().join("model")).kv_cache_mib(1);
    refused(&options, &["`kv_cache_mib` 1", "2 or more"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_sequences() {
    let folder = model();
    let options = options(&folder.path().join("model")).max_seqs(0);
    refused(&options, &["`max_seqs` 0", "1 or more"]).await;
}

fn started(folder: &Path) -> EngineBuilder {
    options(&folder.join("model"))
}

#[tokio::test(flavor = "multi_thread")]
async fn requests() {
    let folder = model();
    let engine = engine(&started(folder.path())).await;
    let refused = |prompt: Prompt, k: usize| {
        let request = Request::new(prompt).chains(chain_count(k)).max_tokens(2);
        async { format!("{:#}", engine.answer(request).await.unwrap_err()) }
    };
    let error = refused(Prompt::Tokens(vec![]), 1).await;
    assert!(error.contains("the prompt is empty"), "{error}");
    let error = refused(Prompt::Tokens(vec![1; 600]), 1).await;
    assert!(error.contains("512"), "the context is named: {error}");
    let error = refused(Prompt::Tokens(vec![1, 2]), 5).await;
    assert!(error.contains("chains 5: expected 1 to 4"), "{error}");
    for k in [0, 5] {
        let error = engine.chain_count(k).unwrap_err().to_string();
        assert!(error.contains("expected 1 to 4"), "{error}");
    }
    engine.answer(Request::tokens(vec![1, 2]).max_tokens(2)).await.unwrap();
}

/// Prompt and answer together are at most as long as the context.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ends_where_the_context_ends() {
    let folder = random_model::folder(&with(random_model::air(), |json| {
        json["max_position_embeddings"] = 64.into();
    }));
    let engine = engine(&started(folder.path())).await;
    let mut lengths = Vec::new();
    for first in 1..8 {
        let request = Request::tokens(vec![first; 50]);
        let answer = engine.answer(request).await.unwrap();
        assert!(
            answer.usage.prompt_tokens + answer.usage.completion_tokens <= 64,
            "{:?}",
            answer.usage
        );
        lengths.push(answer.finish_reason);
    }
    assert!(lengths.contains(&FinishReason::Length), "{lengths:?}");
}
