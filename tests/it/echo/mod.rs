//! The engine's paging under load, seen by a model that checks every slot it can see.
//!
//! What the model answers depends on all that stands in the cache for a sequence. Whatever goes wrong
//! with block tables, prefix cache, preemption or batching makes wrong rows and other answers.

mod engine;
mod loader;
mod model;

use engine::{Answer, EchoEngine, Pool, Request, VOCAB_SIZE};
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

fn request(prompt: Vec<u32>, new_tokens: impl Into<Option<usize>>) -> Request {
    Request { prompt, variant: 1, new_tokens: new_tokens.into() }
}

const CLIENTS: usize = 16;
const REQUESTS_PER_CLIENT: usize = 12;

/// Per client, its requests: some short, some as long as the smallest pool; many begin alike.
fn load() -> Vec<Vec<Request>> {
    let mut random = Random(0);
    let shared: Vec<Vec<u32>> = (0..4).map(|group| random.tokens(5 + 11 * group)).collect();
    let mut request = || {
        let mut prompt = shared[random.below(shared.len())].clone();
        let own = 1 + random.below(20);
        prompt.extend(random.tokens(own));
        let room = Pool::of(12).longest() - prompt.len();
        Request { prompt, variant: 1 + random.below(2), new_tokens: Some(1 + random.below(room)) }
    };
    let mut client = |_| (0..REQUESTS_PER_CLIENT).map(|_| request()).collect();
    (0..CLIENTS).map(&mut client).collect()
}

/// The answer by the model's definition.
fn expected(request: &Request, pool: &Pool) -> Answer {
    // The engine gives one token, even to a prompt that has the greatest length.
    let room = (pool.longest() - request.prompt.len()).max(1);
    let new_tokens = request.new_tokens.map_or(room, |tokens| tokens.min(room));
    let tokens = model::answer(&request.prompt, request.variant, new_tokens, VOCAB_SIZE);
    Answer { tokens, finish_reason: "length".into() }
}

async fn ask(engine: &EchoEngine, pool: &Pool, request: &Request) {
    run(engine, pool, vec![vec![request.clone()]]).await;
}

/// All clients at once, each with one request after the other: no row and no answer may be wrong.
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
    // Every block is free again: a prompt that needs all of them runs.
    ask(&engine, &pool, &request(Random(1).tokens(pool.longest()), 1)).await;
    seen
}

/// The definition is what the engine answers to a request that is alone with all of a fresh pool.
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

/// The engine's own way: it preempts whatever is longer than the shortest sequences.
#[tokio::test(flavor = "multi_thread")]
async fn batches_of_equal_length() {
    let seen = under_load(Pool { ragged_batches: false, ..Pool::of(60) }).await;
    assert!(seen.resumed > 50, "{seen:?}");
}

/// A sequence waits for its blocks however long another one runs.
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

/// The last token of an answer was never run: its block is not in the prefix cache.
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
    // 4 of 5 blocks: the last token must run.
    assert_eq!(reused, [0, 32, 32, 64, 96]);
}

/// A step that fails, of a prompt or of an answer, ends its own request alone, and nothing it was to write is
/// found in the cache.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_ends_its_requests() {
    for (failing, panics) in [(1, false), (5, false), (1, true), (5, true)] {
        let pool = Pool::of(12);
        let engine = EchoEngine::start(&pool).await;
        let before = engine.seen().steps;
        engine.fail_at(failing, panics);
        let prompt = Random(7).tokens(60);
        let error = engine.ask(&request(prompt.clone(), 20)).await.unwrap_err();
        assert!(error.contains("this step was to fail"), "{error}");
        assert_eq!(engine.seen().steps - before, failing, "nothing of it runs again");
        ask(&engine, &pool, &request(prompt, 20)).await;
        let seen = engine.seen();
        assert!(failing > 1 || seen.reused == 0, "what the prompt's step wrote: nothing; {seen:?}");
        // Its blocks are free.
        ask(&engine, &pool, &request(Random(1).tokens(pool.longest()), 1)).await;
    }
}

/// Whoever is in the batch of a failed step fails with it; everybody else gets the right answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_among_many() {
    for panics in [false, true] {
        a_failed_step_among_many_that(panics).await;
    }
}

async fn a_failed_step_among_many_that(panics: bool) {
    let pool = Pool::of(60);
    let engine = EchoEngine::start(&pool).await;
    engine.fail_at(20, panics);
    let requests: Vec<Request> = load().into_iter().flatten().take(3 * CLIENTS).collect();
    let answers = requests.iter().map(|request| engine.ask(request));
    let answers = futures::future::join_all(answers).await;
    let mut failed = 0;
    for (answer, request) in answers.into_iter().zip(&requests) {
        match answer {
            Ok(answer) => assert_eq!(answer, expected(request, &pool), "{request:?}"),
            Err(error) => {
                assert!(error.contains("this step was to fail"), "{error}");
                failed += 1;
            }
        }
    }
    assert!((1..requests.len()).contains(&failed), "{failed} of {}", requests.len());
    run(&engine, &pool, load()).await;
}
