//! The engine's paging under load, seen by a model that checks every slot it can see.
//!
//! The model's answer depends on all that stands in the cache for a sequence. Whatever goes wrong in
//! block tables, prefix cache, preemption or batching makes wrong rows and other answers.

mod engine;
mod loader;
mod model;

use std::collections::HashMap;

use engine::{Answer, EchoEngine, Pool, Request, BLOCK_SIZE, VOCAB_SIZE};
use model::Seen;

/// splitmix64
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % end as u64) as usize
    }

    fn tokens(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.below(VOCAB_SIZE) as u32).collect()
    }
}

const CLIENTS: usize = 16;
const REQUESTS_PER_CLIENT: usize = 6;

/// Per client, its requests: some short, some up to all of the smallest pool; many begin alike.
fn load() -> Vec<Vec<Request>> {
    let mut random = Random(0);
    let shared: Vec<Vec<u32>> = (0..4).map(|group| random.tokens(5 + 11 * group)).collect();
    let request = |random: &mut Random| {
        let mut prompt = shared[random.below(shared.len())].clone();
        let own = 1 + random.below(20);
        prompt.extend(random.tokens(own));
        let room = Pool::of(12).tokens() - prompt.len();
        Request { prompt, variant: 1, new_tokens: Some(1 + random.below(room)) }
    };
    let client = |_| (0..REQUESTS_PER_CLIENT).map(|_| request(&mut random)).collect();
    (0..CLIENTS).map(client).collect()
}

fn expected(request: &Request) -> Answer {
    let new_tokens = request.new_tokens.unwrap();
    let tokens = model::answer(&request.prompt, request.variant, new_tokens, VOCAB_SIZE);
    Answer { tokens, finish_reason: "length".into() }
}

/// All clients at once, each with one request after the other; every answer must be the solo one.
async fn run(engine: &EchoEngine, clients: Vec<Vec<Request>>) {
    let client = |requests: Vec<Request>| {
        let engine = engine.clone();
        tokio::spawn(async move {
            for request in &requests {
                assert_eq!(engine.ask(request).await, Ok(expected(request)), "{request:?}");
            }
        })
    };
    let clients: Vec<_> = clients.into_iter().map(client).collect();
    for client in clients {
        client.await.unwrap();
    }
}

async fn under_load(pool: Pool) -> Seen {
    let engine = EchoEngine::start(&pool).await;
    run(&engine, load()).await;
    let seen = engine.seen();
    eprintln!("{pool:?}: {seen:?}");
    assert_eq!(seen.wrong_rows, 0, "{seen:?}");
    assert!(seen.rows > 4000 && seen.reused > 1000, "{seen:?}");
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_of_12_blocks() {
    let seen = under_load(Pool::of(12)).await;
    assert!(seen.resumed > 100, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_of_30_blocks() {
    let seen = under_load(Pool::of(30)).await;
    assert!(seen.resumed > 20, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_of_60_blocks() {
    let seen = under_load(Pool::of(60)).await;
    assert!(seen.resumed > 0, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_of_4096_blocks() {
    let seen = under_load(Pool::of(4096)).await;
    assert!(seen.resumed == 0 && seen.largest_batch == CLIENTS, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_equal_length() {
    let seen = under_load(Pool { ragged_batches: false, ..Pool::of(60) }).await;
    assert!(seen.resumed > 100, "{seen:?}");
}
