//! The engine's paging under load, tested with a model that checks every slot it can read.
//!
//! The answer depends on all slots of a sequence. An error in block tables, prefix cache, preemption or batching
//! produces wrong rows and different answers.

mod chunks;
mod engine;
mod failures;
mod kv_slots;
mod loader;
mod model;

use engine::{Answer, EchoEngine, Pool, Request, VOCAB_SIZE};
use model::{Seen, HALF_CHARACTERS};

/// The splitmix64 generator.
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

fn request(prompt: Vec<u32>, new_tokens: impl Into<Option<usize>>) -> Request {
    Request { prompt, variant: 1, new_tokens: new_tokens.into() }
}

const CLIENTS: usize = 16;
const REQUESTS_PER_CLIENT: usize = 12;

/// The requests of each client, from a few tokens to the size of the smallest pool. Many share a prefix.
fn load() -> Vec<Vec<Request>> {
    let mut random = Random(0);
    let shared: Vec<Vec<u32>> = (0..4).map(|group| random.tokens(5 + 11 * group)).collect();
    let mut request = || {
        let mut prompt = shared[random.below(shared.len())].clone();
        let own = 1 + random.below(20);
        prompt.extend(random.tokens(own));
        let room = Pool::of(12).longest() - prompt.len();
        let variant = 1 + random.below(2);
        Request { variant, ..self::request(prompt, 1 + random.below(room)) }
    };
    let mut client = |_| (0..REQUESTS_PER_CLIENT).map(|_| request()).collect();
    (0..CLIENTS).map(&mut client).collect()
}

/// The answer by the definition of the model.
fn expected(request: &Request, pool: &Pool) -> Answer {
    // The engine answers with one token even if the prompt has the largest length.
    let room = (pool.longest() - request.prompt.len()).max(1);
    let new_tokens = request.new_tokens.map_or(room, |tokens| tokens.min(room));
    let tokens = model::answer(&request.prompt, request.variant, new_tokens, VOCAB_SIZE);
    Answer { tokens, finish_reason: "length".into() }
}

async fn ask(engine: &EchoEngine, pool: &Pool, request: &Request) {
    run(engine, pool, vec![vec![request.clone()]]).await;
}

/// Runs all clients concurrently, each with its requests in sequence. All rows and answers must be right.
async fn run(engine: &EchoEngine, pool: &Pool, clients: Vec<Vec<Request>>) {
    let client = |requests: Vec<Request>| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let mut answers = Vec::with_capacity(requests.len());
            for request in requests {
                answers.push((engine.ask(&request).await, request));
            }
            answers
        })
    };
    let clients: Vec<_> = clients.into_iter().map(client).collect();
    let mut answers = Vec::new();
    for client in clients {
        answers.extend(client.await.unwrap());
    }
    let seen = engine.seen();
    assert_eq!(seen.wrong_rows, 0, "{seen:?}");
    for (answer, request) in answers {
        assert_eq!(answer, Ok(expected(&request, pool)), "{request:?}");
    }
}

async fn under_load(pool: Pool) -> Seen {
    let engine = EchoEngine::start(&pool).await;
    run(&engine, &pool, load()).await;
    let seen = engine.seen();
    assert!(seen.rows > 5000 && seen.reused > 100, "{seen:?}");
    // All blocks are free again: a prompt that needs all of them runs.
    ask(&engine, &pool, &request(Random(1).tokens(pool.longest()), 1)).await;
    seen
}

/// A request that runs alone in a new pool gets the answer of the definition.
#[tokio::test(flavor = "multi_thread")]
async fn alone() {
    let pool = Pool::of(12);
    for request in load().iter().flatten().step_by(CLIENTS) {
        let engine = EchoEngine::start(&pool).await;
        ask(&engine, &pool, request).await;
        let seen = engine.seen();
        assert_eq!((seen.reused, seen.resumed), (0, 0), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_of_12_blocks() {
    let seen = under_load(Pool::of(12)).await;
    assert!(seen.resumed > 50, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_of_30_blocks() {
    let seen = under_load(Pool::of(30)).await;
    assert!(seen.resumed > 20, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_of_60_blocks() {
    let seen = under_load(Pool::of(60)).await;
    assert!(seen.resumed > 5, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_of_4096_blocks() {
    let seen = under_load(Pool::of(4096)).await;
    assert!(seen.resumed == 0 && seen.largest_batch > CLIENTS / 2, "{seen:?}");
}

/// Without ragged batches the engine preempts all sequences but the shortest ones.
#[tokio::test(flavor = "multi_thread")]
async fn batches_of_equal_length() {
    let seen = under_load(Pool { ragged_batches: false, ..Pool::of(60) }).await;
    assert!(seen.resumed > 50, "{seen:?}");
}

/// A sequence waits for blocks for as long as another one runs.
#[tokio::test(flavor = "multi_thread")]
async fn waits_for_a_long_answer() {
    let pool = Pool::of(30);
    let engine = EchoEngine::start(&pool).await;
    let mut random = Random(2);
    // Two of them do not fit.
    let clients = (0..4).map(|_| vec![request(random.tokens(120), 100)]).collect();
    run(&engine, &pool, clients).await;
    assert_eq!(engine.seen().largest_batch, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_answers_where_the_pool_ends() {
    let pool = Pool::of(12);
    let engine = EchoEngine::start(&pool).await;
    let mut random = Random(3);
    let mut prompt = |tokens| random.tokens(tokens);
    ask(&engine, &pool, &request(prompt(20), None)).await;
    ask(&engine, &pool, &request(prompt(88), None)).await;
    let clients = [8, 15, 16, 40].map(|tokens| vec![request(prompt(tokens), None)]);
    run(&engine, &pool, clients.into()).await;
    let refused = engine.ask(&request(prompt(89), 1)).await.unwrap_err();
    assert!(refused.contains("greater than 88"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_answers_where_the_context_ends() {
    let pool = Pool { context: 64, ..Pool::of(4096) };
    let engine = EchoEngine::start(&pool).await;
    let mut random = Random(4);
    // Prompt and new tokens count together.
    let within = request(random.tokens(50), 100);
    assert_eq!(engine.ask(&within).await.unwrap().tokens.len(), 14);
    let refused = engine.ask(&request(random.tokens(65), 1)).await.unwrap_err();
    assert!(refused.contains("greater than 64"), "{refused}");
}

/// The last token of an answer has no KV, so its block is not in the prefix cache.
#[tokio::test(flavor = "multi_thread")]
async fn goes_on_from_an_answer() {
    let pool = Pool::of(60);
    let engine = EchoEngine::start(&pool).await;
    let mut random = Random(6);
    let first = request(random.tokens(20), 12);
    ask(&engine, &pool, &first).await;
    let answer = expected(&first, &pool).tokens;
    ask(&engine, &pool, &request([first.prompt, answer, random.tokens(5)].concat(), 3)).await;
    assert_eq!(engine.seen().reused, 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_blocks_within_a_variant_only() {
    let pool = Pool::of(60);
    let engine = EchoEngine::start(&pool).await;
    let prompt = Random(5).tokens(40);
    let mut reused = Vec::new();
    for variant in [1, 1, 2, 2, 1] {
        ask(&engine, &pool, &Request { variant, ..request(prompt.clone(), 3) }).await;
        reused.push(engine.seen().reused);
    }
    // 4 of 5 blocks, because the last token must be computed.
    assert_eq!(reused, [0, 32, 32, 64, 96]);
}

/// Three times, because a start may find the lock free each time.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_starts_while_its_pipeline_is_in_use() {
    for _ in 0..3 {
        let pool = Pool::of(60);
        let engine = EchoEngine::start_while_in_use(&pool).await;
        ask(&engine, &pool, &request(vec![1, 2, 3], 5)).await;
    }
}

/// Loading does not ask for the layers to quantize: a model with packed weights would have to unpack them.
#[tokio::test(flavor = "multi_thread")]
async fn loading_requests_no_layers() {
    let engine = EchoEngine::start(&Pool::of(12)).await;
    assert_eq!(engine.seen().layers_requested, 0);
}

/// The last chunk of a stream has the finish reason even if the answer ends within a UTF-8 character.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_within_a_character() {
    let engine = EchoEngine::start(&Pool::of(12)).await;
    let request = Request { variant: HALF_CHARACTERS, ..request(Random(8).tokens(5), 1) };
    let answer = engine.stream(&request).await;
    assert_eq!(answer, Ok(Answer { tokens: Vec::new(), finish_reason: "length".into() }));
}
