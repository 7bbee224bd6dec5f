//! Prompts that are computed in chunks, in one batch with the sequences that decode.

use std::time::Duration;

use super::engine::{EchoEngine, Pool, Request, BLOCK_SIZE};
use super::model::{Pass, Seen};
use super::{ask, request, run, under_load, Random};

fn chunked(blocks: usize, prefill_chunk: usize) -> Pool {
    Pool { prefill_chunk: Some(prefill_chunk), ..Pool::of(blocks) }
}

fn assert_bounded(seen: &Seen, prefill_chunk: usize) {
    let largest = seen.passes.iter().map(|pass| pass.prompt).max();
    assert!(largest <= Some(prefill_chunk), "{largest:?} prompt tokens in a step: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_block_in_a_pool_of_12_blocks() {
    let seen = under_load(chunked(12, BLOCK_SIZE)).await;
    assert_bounded(&seen, BLOCK_SIZE);
    assert!(seen.resumed > 20, "{}", seen.resumed);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_blocks_in_a_pool_of_30_blocks() {
    let seen = under_load(chunked(30, 2 * BLOCK_SIZE)).await;
    assert_bounded(&seen, 2 * BLOCK_SIZE);
    assert!(seen.resumed > 5, "{}", seen.resumed);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_blocks_in_a_large_pool() {
    let seen = under_load(chunked(4096, 3 * BLOCK_SIZE)).await;
    assert_bounded(&seen, 3 * BLOCK_SIZE);
    assert_eq!(seen.resumed, 0);
    let mixed = seen.passes.iter().filter(|pass| pass.prompt > 0 && pass.decoding > 1).count();
    assert!(mixed > 50, "{mixed} steps with prompts and decoding sequences");
}

/// The steps with prompts while `clients` ask beside an answer that takes longer than all of them.
async fn passes_beside_an_answer(seed: u64, clients: Vec<Vec<Request>>) -> Vec<Pass> {
    let pool = Pool { context: 8000, ..chunked(4096, BLOCK_SIZE) };
    let engine = EchoEngine::start(&pool).await;
    let answer = request(Random(seed).tokens(5), 7000);
    let answer = tokio::spawn({
        let engine = engine.clone();
        async move { engine.ask(&answer).await }
    });
    while engine.seen().passes.iter().all(|pass| pass.decoding == 0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = engine.seen().passes.len();
    run(&engine, &pool, clients).await;
    answer.abort();
    let mut passes = engine.seen().passes.split_off(before);
    passes.retain(|pass| pass.prompt > 0);
    passes
}

/// A sequence decodes a token in every step in which chunks of a long prompt are computed.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_prompt_delays_no_token() {
    let prompt = request(Random(20).tokens(400), 1);
    let passes = passes_beside_an_answer(23, vec![vec![prompt]]).await;
    assert_eq!(passes, vec![Pass { prompt: BLOCK_SIZE, decoding: 1 }; 400 / BLOCK_SIZE]);
}

/// A steady stream of short prompts does not keep a sequence from decoding.
#[tokio::test(flavor = "multi_thread")]
async fn short_prompts_delay_no_token() {
    let mut random = Random(21);
    let clients = (0..8).map(|_| (0..30).map(|_| request(random.tokens(7), 1)).collect());
    let passes = passes_beside_an_answer(24, clients.collect()).await;
    // A client asks again when it has its answer, so its prompts are in 30 steps.
    assert!(passes.len() >= 30, "{passes:?}");
    assert!(passes.iter().all(|pass| pass.decoding == 1), "{passes:?}");
}

/// Chunks enter the prefix cache when they have been computed, not when their prompt ends. A prompt that is canceled
/// leaves its chunks there.
#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_prompt_leaves_its_chunks_in_the_prefix_cache() {
    let pool = Pool { context: 8000, ..chunked(4096, BLOCK_SIZE) };
    let engine = EchoEngine::start(&pool).await;
    let prompt = Random(22).tokens(4000);
    engine.disconnect(&request(prompt.clone(), 1)).await;
    ask(&engine, &pool, &request(prompt, 1)).await;
    let seen = engine.seen();
    let computed: usize = seen.passes.iter().map(|pass| pass.prompt).sum();
    let twice = computed - 4000;
    assert!(seen.reused > 0 && seen.reused < 4000, "{} tokens were reused", seen.reused);
    // The chunk that was being computed when the client left.
    assert!(twice <= BLOCK_SIZE, "{twice} tokens were computed twice");
}

/// The oldest sequence keeps its blocks. A newer prompt waits for them, with the chunks it has.
#[tokio::test(flavor = "multi_thread")]
async fn two_prompts_in_a_pool_too_small_for_both() {
    for prefill_chunk in [BLOCK_SIZE, 2 * BLOCK_SIZE, 64 * BLOCK_SIZE] {
        let pool = chunked(30, prefill_chunk);
        let engine = EchoEngine::start(&pool).await;
        let mut random = Random(23);
        let clients = (0..4).map(|_| vec![request(random.tokens(120), 100)]).collect();
        run(&engine, &pool, clients).await;
        assert_bounded(&engine.seen(), prefill_chunk);
    }
}

/// A step that fails in the middle of a prompt ends it. Its blocks do not enter the prefix cache.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_the_middle_of_a_prompt() {
    for panics in [false, true] {
        let pool = chunked(60, BLOCK_SIZE);
        let engine = EchoEngine::start(&pool).await;
        engine.fail_at(5, panics);
        let failed = request(Random(24).tokens(100), 3);
        let error = engine.ask(&failed).await.unwrap_err();
        assert!(error.contains("this step was to fail"), "{error}");
        ask(&engine, &pool, &failed).await;
        // The chunks before the failure were computed and are right.
        assert!(engine.seen().reused <= 4 * BLOCK_SIZE, "{:?}", engine.seen());
        ask(&engine, &pool, &request(Random(1).tokens(pool.longest()), 1)).await;
    }
}
