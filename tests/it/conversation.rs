//! Conversations that change the chain count at every turn.

use colm::Request;
use colm_testing::engine::{chain_count, engine, options};
use colm_testing::random_model::{self, VOCAB};

const BLOCK_SIZE: usize = 16;

/// The tokens of the user's next message.
fn turn(index: usize) -> Vec<u32> {
    (0..9 + 5 * index).map(|at| (1 + (at * 17 + index * 29) % (VOCAB - 1)) as u32).collect()
}

/// Air: a turn prefills only new tokens, whatever the chain counts of earlier turns were, and its answer is that of an
/// engine without a cache.
#[tokio::test(flavor = "multi_thread")]
async fn air_prefills_only_new_tokens_at_every_switch() {
    let folder = random_model::folder(&random_model::air());
    let options = options(&folder.path().join("model")).block_size(BLOCK_SIZE);
    let engine_ = engine(&options).await;
    let mut tokens = Vec::new();
    for (index, k) in [4, 1, 3, 2, 4, 1, 2].into_iter().enumerate() {
        let known = tokens.len();
        tokens.extend(turn(index));
        let request = Request::tokens(tokens.clone()).chains(chain_count(k)).max_tokens(12);
        let before = engine_.counts();
        let answer = engine_.answer(request.clone()).await.unwrap();
        let counts = engine_.counts().since(before);

        assert_eq!(counts.prompt + counts.reused, tokens.len());
        // The last token of an answer has no keys and values yet, and only full blocks are reused.
        let reusable = known.saturating_sub(1) / BLOCK_SIZE * BLOCK_SIZE;
        assert_eq!(counts.reused, reusable, "turn {index} at {k} chains");

        let fresh = engine(&options).await.answer(request).await.unwrap();
        assert_eq!(answer.text, fresh.text, "turn {index} at {k} chains");
        tokens.extend(engine_.tokenize(&answer.text).await.unwrap());
    }
}

/// CoLM: a prefix that was computed at k chains is not reused at another chain count.
#[tokio::test(flavor = "multi_thread")]
async fn colm_reuses_a_prefix_at_its_own_chain_count_only() {
    let folder = random_model::folder(&random_model::colm());
    let options = options(&folder.path().join("model")).block_size(BLOCK_SIZE);
    let engine_ = engine(&options).await;
    let prompt: Vec<u32> = (0..50).map(|at| (1 + at * 7 % (VOCAB - 1)) as u32).collect();
    let request = |k: usize| Request::tokens(prompt.clone()).chains(chain_count(k)).max_tokens(8);
    let mut fresh = Vec::new();
    for k in 1..=4 {
        fresh.push(engine(&options).await.answer(request(k)).await.unwrap().text);
    }
    for (k, reused) in [(1, 0), (3, 0), (3, 48), (4, 0), (1, 48), (2, 0), (4, 48)] {
        let before = engine_.counts();
        let answer = engine_.answer(request(k)).await.unwrap().text;
        assert_eq!(engine_.counts().since(before).reused, reused, "at {k} chains");
        assert_eq!(answer, fresh[k - 1], "at {k} chains");
    }
}
