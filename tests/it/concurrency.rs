//! Many concurrent requests: every answer equals the one that the request gets alone.

use std::collections::HashMap;

use colm::{Engine, EngineBuilder, Request};
use colm_testing::engine::{chain_count, engine, options};
use colm_testing::random_model::{self, with, VOCAB};
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

/// The answers of an engine that gets one request at a time and has no prefix cache.
async fn alone(options: &EngineBuilder) -> Vec<String> {
    let options = options.clone().prefix_cache(false).max_drafts(0).kv_cache_mib(64);
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
    kv_cache_mb: usize,
    block_size: usize,
    drafts: usize,
) -> Engine {
    let folder = random_model::folder(config);
    let options = options(&folder.path().join("model"));
    let options = options.kv_cache_mib(kv_cache_mb).block_size(block_size).max_drafts(drafts);
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
    let engine = assert_same_answers_as_alone(&random_model::air(), 16, 16, 0).await;
    assert!(engine.counts().reused > 0, "shared prefixes are reused");
}

#[tokio::test(flavor = "multi_thread")]
async fn colm_at_mixed_chain_counts() {
    let engine = assert_same_answers_as_alone(&random_model::colm(), 16, 16, 0).await;
    assert!(engine.counts().reused > 0, "shared prefixes are reused at equal chain counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn air_in_a_pool_too_small_for_all() {
    // 6 KiB a token: 1 MiB is 21 blocks of 8 tokens.
    let engine = assert_same_answers_as_alone(&many_kv_bytes(random_model::air()), 1, 8, 0).await;
    assert!(engine.max_tokens() < 512, "the pool, not the context, is the limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn colm_in_a_pool_too_small_for_all() {
    // 12 KiB a token: 2 MiB is 21 blocks of 8 tokens.
    assert_same_answers_as_alone(&many_kv_bytes(random_model::colm()), 2, 8, 0).await;
}

/// Self-speculation does not change answers when sequences are batched, preempted and cached.
#[tokio::test(flavor = "multi_thread")]
async fn with_drafts() {
    for (config, kv_cache_mb) in [(random_model::air(), 1), (random_model::colm(), 2)] {
        assert_same_answers_as_alone(&config, 16, 16, 6).await;
        // The engine does not draft for large batches; in a small pool few sequences run at a time.
        let engine = assert_same_answers_as_alone(&many_kv_bytes(config), kv_cache_mb, 8, 3).await;
        let counts = engine.counts();
        assert!(counts.drafted > 0 && counts.accepted < counts.drafted, "{counts:?}");
    }
}

/// After a request is dropped before its answer, the next request gets the usual answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_request_does_not_change_other_answers() {
    let folder = random_model::folder(&random_model::air());
    let engine = engine(&options(&folder.path().join("model"))).await;
    let request =
        |tokens: usize| Request::tokens(vec![1, 2, 3]).chains(chain_count(2)).max_tokens(tokens);
    let alone = engine.answer(request(200)).await.unwrap().text;
    let mut leaving = Box::pin(engine.answer(request(400)));
    // The request is sent and waits for its answer.
    assert!(futures::poll!(&mut leaving).is_pending());
    drop(leaving);
    assert_eq!(engine.answer(request(200)).await.unwrap().text, alone);
}
