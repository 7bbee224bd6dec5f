//! Two replicas with one store: conversations go to another one with every turn.

use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const CLIENTS: usize = 32;
const TURNS: usize = 4;

/// The turns of a client: the tokens of each question, and the chain count of its answer.
fn turns(client: usize) -> Vec<(Vec<u32>, usize)> {
    let mut random = StdRng::seed_from_u64(client as u64);
    let turn = |turn| {
        // Groups of clients begin with the same prompt.
        let seed = if turn == 0 { client % 4 } else { 100 * client + turn };
        let length = if turn == 0 { 40 } else { random.random_range(3..30) };
        (prompt(seed, length), random.random_range(1..=4))
    };
    (0..TURNS).map(turn).collect()
}

/// The answers to all conversations, turn by turn, and the prompt tokens computed. Each turn goes to one of `engines`.
async fn conversations(engines: &[Engine]) -> (Vec<Vec<String>>, usize) {
    let mut histories = vec![Vec::new(); CLIENTS];
    let mut answers = Vec::new();
    for turn in 0..TURNS {
        let asked =
            histories.iter_mut().enumerate().map(|(client, history): (_, &mut Vec<u32>)| {
                let engine = &engines[(client + turn) % engines.len()];
                async move {
                    let (question, k) = turns(client).swap_remove(turn);
                    history.extend(question);
                    let request = Request::tokens(history.clone());
                    let request = request.chains(chain_count(k)).max_tokens(20);
                    let answer =
                        engine.answer(request).await.unwrap_or_else(|error| panic!("{error:#}"));
                    history.extend(answer.tokens.iter().map(|token| token.id));
                    answer.text
                }
            });
        answers.push(join_all(asked).await);
        // The last blocks of an answer enter the prefix cache when the next step is planned.
        tokio::time::sleep(Duration::from_millis(200)).await;
        join_all(engines.iter().map(Engine::flush_kv_store)).await;
    }
    (answers, engines.iter().map(computed).sum())
}

async fn answers_equal_those_of_one_engine(config: Value, kv_cache_mib: usize) {
    let model = random_model::folder(&config);
    let model = model.path().join("model");
    let alone = options(&model).block_size(BLOCK_SIZE).ignore_eos(true);
    let one = engine(&alone.clone().prefix_cache(false).kv_cache_mib(64).max_seqs(1)).await;
    let (expected, _) = conversations(&[one]).await;
    let everything = engine(&alone.kv_cache_mib(64)).await;
    let (same, computed_by_one) = conversations(&[everything]).await;
    assert_eq!(same, expected);
    let folder = tempfile::tempdir().unwrap();
    let replica = with_store(&model, folder.path()).ignore_eos(true).kv_cache_mib(kv_cache_mib);
    let replicas = [engine(&replica).await, engine(&replica).await];
    let (answers, computed) = conversations(&replicas).await;
    assert_eq!(answers, expected);
    assert!(
        computed <= computed_by_one + CLIENTS * TURNS * BLOCK_SIZE,
        "two replicas have computed {computed} prompt tokens, one engine {computed_by_one}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_air() {
    answers_equal_those_of_one_engine(random_model::air(), 16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_colm() {
    answers_equal_those_of_one_engine(random_model::colm(), 16).await;
}
