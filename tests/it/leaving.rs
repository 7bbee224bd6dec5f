//! Clients that disconnect: their answers stop, and other answers do not change.

use std::path::Path;
use std::time::Duration;

use colm::serve::ServeOptions;
use colm::{Counts, Engine, Message, Request};
use colm_testing::engine::{chain_count, engine, options};
use colm_testing::folders::shipped;
use futures::future::join_all;
use futures::TryStreamExt;
use rand::{rngs::StdRng, Rng, SeedableRng};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

async fn started(model: &str, drafts: usize) -> Engine {
    let options = options(Path::new(&shipped(model))).max_drafts(drafts).max_seqs(16);
    engine(&options).await
}

/// A request with a long answer.
fn long() -> Request {
    // Keeps the model from ending its answer.
    let never_end = |logits: &candle_core::Tensor, _: &[u32]| {
        let mut values = logits.to_vec1::<f32>()?;
        values[0] = f32::NEG_INFINITY;
        candle_core::Tensor::from_vec(values, logits.shape(), logits.device())
    };
    Request::tokens([7, 8, 9]).max_tokens(900).logits_processor(never_end)
}

/// What the engine still computes from now on until it is idle.
async fn until_idle(engine: &Engine) -> Counts {
    let start = engine.counts();
    let mut before = start;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = engine.counts();
        if now == before {
            return now.since(start);
        }
        before = now;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_answer_is_not_computed() {
    let engine = started("tiny-colm-air", 0).await;
    // Whole answer: the future is dropped, as in the server when its client disconnects.
    let answering = tokio::time::timeout(Duration::from_millis(50), engine.answer(long())).await;
    assert!(answering.is_err(), "the answer is too short for this test");
    let left = until_idle(&engine).await;
    assert!(left.steps <= 2, "{left:?}");
    // Streamed answer: dropped after the first piece.
    let mut stream = engine.stream(long()).await.unwrap();
    stream.try_next().await.unwrap().unwrap();
    drop(stream);
    let left = until_idle(&engine).await;
    assert!(left.steps <= 2, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_request_leaves_the_queue() {
    let engine = started("tiny-colm-air", 0).await;
    let mut running = Vec::new();
    for _ in 0..16 {
        let mut stream = engine.stream(long()).await.unwrap();
        stream.try_next().await.unwrap().unwrap();
        running.push(stream);
    }
    let before = engine.counts().prompt;
    let mut queued = Vec::new();
    for _ in 0..100 {
        queued.push(engine.stream(long()).await.unwrap());
    }
    drop(queued);
    drop(running);
    until_idle(&engine).await;
    assert_eq!(engine.counts().prompt, before, "the prompt of a dropped request was computed");
}

/// 64 clients, some of which disconnect at random times. The others get the same answers as alone.
#[tokio::test(flavor = "multi_thread")]
async fn remaining_clients_get_the_same_answers_as_alone() {
    for (model, drafts) in
        [("tiny-colm-air", 0), ("tiny-colm", 0), ("tiny-colm-air", 4), ("tiny-colm", 4)]
    {
        let engine = started(model, drafts).await;
        let mut rng = StdRng::seed_from_u64(3);
        let request = |index: usize| {
            let question = format!("What is {} + {}?", 10 + index % 20, 30 + index);
            let mut request = Request::chat(vec![Message::user(question)]);
            if index.is_multiple_of(2) {
                request.sampling.temperature = 0.8;
                request.seed = Some(index as u64);
            }
            request.chains(chain_count(1 + index % 4)).max_tokens(30)
        };
        let mut alone = Vec::new();
        for index in 0..64 {
            alone.push(engine.answer(request(index)).await.unwrap().text);
        }
        let leaves: Vec<Option<u64>> =
            (0..64).map(|_| rng.random_bool(0.5).then(|| rng.random_range(0..150))).collect();
        let clients = (0..64).map(|index| {
            let (engine, leaves) = (&engine, leaves[index]);
            async move {
                match leaves {
                    None => Some(engine.answer(request(index)).await.unwrap().text),
                    Some(after) => {
                        let left = Duration::from_millis(after);
                        let answer = engine.answer(request(index));
                        tokio::time::timeout(left, answer).await.ok().map(|one| one.unwrap().text)
                    }
                }
            }
        });
        for (index, answer) in join_all(clients).await.into_iter().enumerate() {
            assert!(answer.is_some() || leaves[index].is_some());
            assert!(answer.is_none_or(|answer| answer == alone[index]), "{model}, client {index}");
        }
    }
}

/// Closing the connection ends the answers of its request: streamed, unstreamed, and several choices.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_connection_ends_its_answers() {
    let engine = started("tiny-colm-air", 0).await;
    let router = colm::serve::router(&engine, ServeOptions::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    for fields in [r#""n":1"#, r#""n":1,"stream":true"#, r#""n":16,"max_tokens":1000"#] {
        // Bias against the end token, so that the answer is long.
        let body = format!(
            r#"{{"messages":[{{"role":"user","content":"hello"}}],"logit_bias":{{"0":-100}},{fields}}}"#
        );
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let before = engine.counts().decoded;
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        while engine.counts().decoded == before {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(connection);
        let left = until_idle(&engine).await;
        assert!(left.decoded < 500, "{fields}: computed after the client had left: {left:?}");
    }
}
