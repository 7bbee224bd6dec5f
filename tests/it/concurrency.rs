//! Many concurrent requests: every answer equals the one that the request gets alone.

use std::collections::HashMap;

use colm::{Dtype, Engine, EngineBuilder, MatmulPrecision, Quantization, Request};
use colm_testing::engine::{chain_count, engine, options};
use colm_testing::random_model::{self, with, VOCAB};
use futures::StreamExt;
use serde_json::Value;

const CLIENTS: usize = 32;
const NEW_TOKENS: usize = 24;

/// Prompts of 3 to 97 tokens in four groups that share a prefix, at chain counts 1 to 4.
fn requests() -> Vec<Request> {
    let token =
        |group: usize, at: usize| (1 + (at * at + 31 * at + 97 * group) % (VOCAB - 1)) as u32;
    let request = |client: usize| {
        let group = client % 4;
        let shared = [3, 40, 64, 71][group];
        let own = (client * 13) % 27;
        let prompt = (0..shared).map(|at| token(group, at));
        let prompt: Vec<u32> = prompt.chain((0..own).map(|at| token(client + 10, at))).collect();
        Request::tokens(prompt).chains(chain_count(1 + client / 2 % 4)).max_tokens(NEW_TOKENS)
    };
    (0..CLIENTS).map(request).collect()
}

/// The answers of an engine that gets one request at a time, computes prompts as a whole and has no prefix cache.
async fn alone(options: &EngineBuilder) -> Vec<String> {
    let options = options.clone().prefix_cache(false).max_drafts(0).kv_cache_mib(64);
    let options = options.prefill_chunk(1024);
    let engine = engine(&options).await;
    let mut answers = Vec::new();
    for request in requests() {
        answers.push(engine.answer(request).await.unwrap().text);
    }
    answers
}

async fn all_at_once(engine: &Engine) -> Vec<String> {
    let answers = requests().into_iter().map(|request| async {
        engine.answer(request).await.unwrap_or_else(|error| panic!("{error:#}")).text
    });
    futures::future::join_all(answers).await
}

async fn assert_same_answers_as_alone(
    config: &Value,
    with_options: impl Fn(EngineBuilder) -> EngineBuilder,
) -> Engine {
    let folder = random_model::folder(config);
    let options = with_options(options(&folder.path().join("model")));
    let expected = alone(&options).await;
    let distinct: HashMap<_, _> = expected.iter().map(|answer| (answer, ())).collect();
    assert!(
        distinct.len() > CLIENTS / 2,
        "different requests have different answers: {distinct:?}"
    );
    let engine = engine(&options).await;
    for round in 0..2 {
        let answers = all_at_once(&engine).await;
        for (client, (answer, expected)) in answers.iter().zip(&expected).enumerate() {
            assert_eq!(answer, expected, "round {round}, client {client}");
        }
    }
    engine
}

/// A model with so many KV bytes per token (heads of 128 in three layers) that 1 MiB holds few blocks.
fn many_kv_bytes(config: Value) -> Value {
    with(config, |json| {
        json["num_hidden_layers"] = 3.into();
        json["head_dim"] = 128.into();
        json["num_key_value_heads"] = 4.into();
        if json["model_type"] == "colm_air" {
            json["num_key_value_heads"] = 2.into();
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn air_at_mixed_chain_counts() {
    let engine = assert_same_answers_as_alone(&random_model::air(), |options| {
        options.kv_cache_mib(16).block_size(16)
    })
    .await;
    assert!(engine.counts().reused > 0, "shared prefixes are reused");
}

#[tokio::test(flavor = "multi_thread")]
async fn colm_at_mixed_chain_counts() {
    let engine = assert_same_answers_as_alone(&random_model::colm(), |options| {
        options.kv_cache_mib(16).block_size(16)
    })
    .await;
    assert!(engine.counts().reused > 0, "shared prefixes are reused at equal chain counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn air_in_a_pool_too_small_for_all() {
    // 6 KiB a token: 1 MiB is 21 blocks of 8 tokens.
    let engine = assert_same_answers_as_alone(&many_kv_bytes(random_model::air()), |options| {
        options.kv_cache_mib(1).block_size(8)
    })
    .await;
    assert!(engine.max_tokens() < 512, "the pool, not the context, is the limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn colm_in_a_pool_too_small_for_all() {
    // 12 KiB a token: 2 MiB is 21 blocks of 8 tokens.
    assert_same_answers_as_alone(&many_kv_bytes(random_model::colm()), |options| {
        options.kv_cache_mib(2).block_size(8)
    })
    .await;
}

/// Self-speculation does not change answers when sequences are batched, preempted and cached.
#[tokio::test(flavor = "multi_thread")]
async fn with_drafts() {
    for (config, kv_cache_mb) in [(random_model::air(), 1), (random_model::colm(), 2)] {
        assert_same_answers_as_alone(&config, |options| {
            options.kv_cache_mib(16).block_size(16).max_drafts(6)
        })
        .await;
        // The engine does not draft for large batches; in a small pool few sequences run at a time.
        let engine = assert_same_answers_as_alone(&many_kv_bytes(config), |options| {
            options.kv_cache_mib(kv_cache_mb).block_size(8).max_drafts(3)
        })
        .await;
        let counts = engine.counts();
        assert!(counts.drafted > 0 && counts.accepted < counts.drafted, "{counts:?}");
    }
}

/// Prompts in chunks of one block and of three: prefix hits end within a chunk, sequences are preempted between chunks,
/// and drafts of decoding sequences stop while prompts are computed beside them.
#[tokio::test(flavor = "multi_thread")]
async fn with_prompts_in_chunks() {
    for (config, kv_cache_mb) in [(random_model::air(), 1), (random_model::colm(), 2)] {
        for (chunk, drafts) in [(8, 0), (24, 3)] {
            let chunked = |options: EngineBuilder| {
                options.block_size(8).prefill_chunk(chunk).max_drafts(drafts)
            };
            assert_same_answers_as_alone(&config, chunked).await;
            let config = many_kv_bytes(config.clone());
            let small_pool = |options| chunked(options).kv_cache_mib(kv_cache_mb);
            assert_same_answers_as_alone(&config, small_pool).await;
        }
    }
}

/// Activations rounded to bf16, with weights in f32, bf16 and q8_0.
#[tokio::test(flavor = "multi_thread")]
async fn with_rounded_activations() {
    let q8_0 = "q8_0".parse::<Quantization>().unwrap();
    for (dtype, quantization) in
        [(Dtype::Auto, None), (Dtype::BF16, None), (Dtype::Auto, Some(q8_0))]
    {
        assert_same_answers_as_alone(&random_model::air(), |options| {
            let options = options.dtype(dtype).matmul_precision(MatmulPrecision::Bf16);
            options.quantization(quantization).block_size(8).prefill_chunk(24).max_drafts(3)
        })
        .await;
    }
}

/// The log-probabilities of a prompt do not depend on the chunks that it is computed in.
#[tokio::test(flavor = "multi_thread")]
async fn scores_do_not_depend_on_chunks() {
    let folder = random_model::folder(&random_model::air());
    let options = options(&folder.path().join("model")).block_size(8);
    let tokens: Vec<u32> = (0..75).map(|at| (1 + at * at % (VOCAB - 1)) as u32).collect();
    let whole = engine(&options.clone().prefill_chunk(512)).await;
    let chunked = engine(&options.prefill_chunk(8)).await;
    let k = chain_count(3);
    let scores = whole.score(tokens.clone(), k).await.unwrap();
    assert_eq!(scores.len(), 74);
    let (first, second) =
        futures::join!(chunked.score(tokens.clone(), k), chunked.score(tokens.clone(), k));
    assert_eq!((first.unwrap(), second.unwrap()), (scores.clone(), scores));
    let logits = |engine: Engine, tokens| async move {
        let logits = engine.logits(tokens, k).await.unwrap();
        logits.to_vec2::<f32>().unwrap()
    };
    assert_eq!(logits(chunked, tokens.clone()).await, logits(whole, tokens).await);
}

/// After a request is dropped in the middle of its answer, the next request gets the usual answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_request_does_not_change_other_answers() {
    let folder = random_model::folder(&random_model::air());
    let engine = engine(&options(&folder.path().join("model"))).await;
    let request =
        |tokens: usize| Request::tokens(vec![1, 2, 3]).chains(chain_count(2)).max_tokens(tokens);
    let alone = engine.answer(request(200)).await.unwrap().text;
    let mut leaving = engine.stream(request(400)).await.unwrap();
    leaving.next().await.unwrap().unwrap();
    drop(leaving);
    assert_eq!(engine.answer(request(200)).await.unwrap().text, alone);
}
