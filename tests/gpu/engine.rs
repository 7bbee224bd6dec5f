//! The engine, with the host's scheduler and cache, on the CUDA kernels.

use std::path::{Path, PathBuf};

use colm::{Dtype, Engine, EngineBuilder, MatmulPrecision, Message, Request};
use colm_testing::engine::{chain_count, engine, options, start_error};
use colm_testing::folders::shipped;
use colm_testing::random_model::{self, VOCAB};
use serde_json::Value;

use crate::models::{air_64, colm_32};

const NEW_TOKENS: usize = 12;

/// The largest allowed difference between the reference's largest logit and its logit of the chosen token. The logits
/// have a spread of about 3, and rounding in bf16 changes them by a few hundredths of that.
const MARGIN: f32 = 0.25;

fn on_gpu(folder: &Path) -> EngineBuilder {
    options(folder).dtype(Dtype::BF16).block_size(16)
}

/// An engine on the CPU in f32, without prefix cache.
async fn reference(folder: &Path) -> Engine {
    let options = options(folder).cpu(true).prefix_cache(false);
    engine(&options.dtype(Dtype::F32)).await
}

/// The tokens of the greedy continuation of `prompt` at `k` chains.
async fn answer(engine: &Engine, prompt: &[u32], k: usize) -> Vec<u32> {
    let request = Request::tokens(prompt.to_vec()).chains(chain_count(k)).max_tokens(NEW_TOKENS);
    let answer = engine.answer(request).await.unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(answer.tokens.len(), answer.usage.completion_tokens, "{answer:?}");
    answer.tokens.iter().map(|token| token.id).collect()
}

/// Prompts of 3 to 90 tokens in three groups that share a prefix.
fn prompt(client: usize) -> Vec<u32> {
    let group = client % 3;
    let token = |seed: usize, at: usize| (1 + (at * at + 31 * at + 97 * seed) % (VOCAB - 1)) as u32;
    let shared = (0..[3, 40, 64][group]).map(|at| token(group, at));
    shared.chain((0..client * 5 % 27).map(|at| token(client + 10, at))).collect()
}

/// Asserts that each token of the answer is, within [`MARGIN`], the reference's greedy choice after the tokens before.
async fn assert_greedy(reference: &Engine, prompt: &[u32], answer: &[u32], k: usize) {
    assert!(!answer.is_empty(), "an answer without tokens");
    let tokens = [prompt, answer].concat();
    let logits =
        reference.logits(tokens.clone(), chain_count(k)).await.unwrap().to_vec2::<f32>().unwrap();
    for at in prompt.len()..tokens.len() {
        let row = &logits[at - 1];
        let chosen = row[tokens[at] as usize];
        // Not by the largest logit, which skips NaN.
        let is_near = row.iter().all(|logit| logit - chosen <= MARGIN);
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let below = largest - chosen;
        assert!(is_near, "token {} at {k} chains: {below} below", at - prompt.len());
    }
}

async fn many_at_once(config: &Value) {
    let parent = random_model::folder(config);
    let folder = parent.path().join("model");
    let reference = reference(&folder).await;
    let engine = engine(&on_gpu(&folder)).await;
    let chains = |client: usize| 1 + client / 2 % 4;
    for round in 0..2 {
        let before = engine.counts();
        let prompts: Vec<_> = (0..8).map(prompt).collect();
        let answers = prompts.iter().enumerate();
        let answers = answers.map(|(client, prompt)| answer(&engine, prompt, chains(client)));
        let answers = futures::future::join_all(answers).await;
        for (client, (prompt, answer)) in prompts.iter().zip(&answers).enumerate() {
            assert_greedy(&reference, prompt, answer, chains(client)).await;
        }
        let reused = engine.counts().since(before).reused;
        assert!(round == 0 || reused > 0, "the second round finds the prefixes of the first");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn air_at_mixed_chain_counts() {
    many_at_once(&air_64()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn colm_at_mixed_chain_counts() {
    many_at_once(&colm_32()).await;
}

/// A repeated prompt that is one token longer than its full blocks: all tokens but one are cached.
#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_hit_with_one_new_token() {
    let parent = random_model::folder(&air_64());
    let folder = parent.path().join("model");
    let reference = reference(&folder).await;
    let engine = engine(&on_gpu(&folder)).await;
    let prompt: Vec<u32> = (0..49).map(|at| (1 + at * 7 % (VOCAB - 1)) as u32).collect();
    for (k, reused) in [(4, 0), (1, 48), (3, 48)] {
        let before = engine.counts();
        let answer = answer(&engine, &prompt, k).await;
        assert_eq!(engine.counts().since(before).reused, reused, "at {k} chains");
        assert_greedy(&reference, &prompt, &answer, k).await;
    }
}

/// The shipped model in the dtype of its weights, with drafts.
#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_model_answers_as_on_the_cpu() {
    let folder = PathBuf::from(shipped("tiny-colm-air"));
    let reference = reference(&folder).await;
    let options = on_gpu(&folder).dtype(Dtype::F16).max_drafts(4);
    let engine = engine(&options).await;
    for (k, question) in [(4, "What is 27 + 58?"), (2, "Sort 93 3 71 18."), (1, "Copy: blue fox")] {
        let request = Request::chat(vec![Message::user(question)]).chains(chain_count(k));
        let expected = reference.answer(request.clone()).await.unwrap();
        let found = engine.answer(request).await.unwrap();
        assert_eq!(found.text, expected.text, "{question} at {k} chains");
    }
    assert!(engine.counts().accepted > 0, "{:?}", engine.counts());
}

/// A model that the kernels do not support fails to load, with an error that names the field.
#[tokio::test(flavor = "multi_thread")]
async fn unsupported_shapes_fail_with_the_field() {
    let changes: [(Value, &str, usize, &str); 4] = [
        (
            air_64(),
            "head_dim",
            16,
            "head_dim = 16: the CUDA kernels support a head_dim of [32, 64, 128]",
        ),
        (air_64(), "intermediate_size", 80, "intermediate_size of chain 1 is 20:"),
        (air_64(), "hidden_size", 144, "hidden_size of chain 1 is 36:"),
        (
            colm_32(),
            "num_key_value_heads",
            8,
            "num_attention_heads of chain 1 is 1: the CUDA kernels need a multiple of the 2",
        ),
    ];
    for (config, field, value, reason) in changes {
        let config = random_model::with(config, |json| json[field] = value.into());
        let parent = random_model::folder(&config);
        let error = on_gpu(&parent.path().join("model")).start().await.err().unwrap();
        let error = format!("{:#}", anyhow::Error::new(error));
        assert!(error.contains(reason) && error.contains("`cpu`"), "{error}");
    }
}

/// Activations have the dtype of the weights.
#[tokio::test(flavor = "multi_thread")]
async fn a_precision_of_activations_is_refused() {
    let folder = random_model::folder(&random_model::air());
    let options = on_gpu(&folder.path().join("model")).matmul_precision(MatmulPrecision::Bf16);
    let error = start_error(&options).await;
    assert!(error.contains("`matmul_precision` bf16") && error.contains("GPU"), "{error}");
}
