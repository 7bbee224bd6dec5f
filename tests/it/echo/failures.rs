//! Forward passes and admissions that fail, and clients that disconnect.

use super::engine::{EchoEngine, Pool, Request};
use super::model::{PANICS_AT_ADMISSION, REFUSED};
use super::{ask, expected, load, request, run, Random, CLIENTS};

/// A failed step, of a prompt or of an answer, ends only its own request. The prefix cache has no blocks of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_ends_its_requests() {
    for (failing, panics) in [(1, false), (5, false), (1, true), (5, true)] {
        let pool = Pool::of(12);
        let engine = EchoEngine::start(&pool).await;
        let before = engine.seen().steps;
        engine.fail_at(failing, panics);
        let mut random = Random(7);
        let failed = request(random.tokens(60), 20);
        let error = engine.ask(&failed).await.unwrap_err();
        assert!(error.contains("this step was to fail"), "{error}");
        assert_eq!(engine.seen().steps - before, failing, "the sequence ran again");
        // This prompt contains the block that the 5th step was to complete.
        let answer = expected(&failed, &pool).tokens;
        let prompt = [failed.prompt, answer[..5].to_vec(), random.tokens(5)].concat();
        ask(&engine, &pool, &request(prompt, 10)).await;
        let seen = engine.seen();
        assert!(
            failing > 1 || seen.reused == 0,
            "blocks of the failed prompt were reused: {seen:?}"
        );
        // Its blocks are free.
        ask(&engine, &pool, &request(Random(1).tokens(pool.longest()), 1)).await;
    }
}

/// A failed step ends the requests of its batch. All other requests get the right answer.
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

/// A client that disconnects during a failing step does not affect a request that waits for blocks.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_disconnects_in_a_failing_step() {
    let pool = Pool::of(30);
    let engine = EchoEngine::start(&pool).await;
    let mut random = Random(9);
    // The pool does not hold both sequences, so the second one is not in the failing batch.
    let [first, second] = [0; 2].map(|_| request(random.tokens(120), 100));
    engine.disconnect_in_failing_step(&first, 50).await;
    ask(&engine, &pool, &second).await;
    let seen = engine.seen();
    assert!(seen.disconnecting.lock().unwrap().is_none(), "the step did not fail: {seen:?}");
}

/// A sequence ends when its client disconnects, and frees its blocks.
#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_client_ends_its_sequence() {
    let pool = Pool { context: 8000, ..Pool::of(512) };
    let engine = EchoEngine::start(&pool).await;
    let mut random = Random(12);
    // The pool does not hold both sequences.
    engine.disconnect(&request(random.tokens(2100), 1900)).await;
    ask(&engine, &pool, &request(random.tokens(2100), 10)).await;
    let steps = engine.seen().steps;
    assert!(steps < 1500, "the sequence ended after {steps} steps");
}

/// A panic during the admission of a request does not affect the running ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_at_admission_ends_its_request() {
    let pool = Pool::of(60);
    let engine = EchoEngine::start(&pool).await;
    let long = request(Random(10).tokens(20), 300);
    let panicking = Request { variant: PANICS_AT_ADMISSION, ..long.clone() };
    let (answer, refused) = futures::join!(engine.ask(&long), engine.ask(&panicking));
    assert_eq!(answer, Ok(expected(&long, &pool)));
    assert_eq!(refused.unwrap_err(), "no response");
}

/// A request that the model cannot run does not affect the running ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_model_refuses_fails_alone() {
    let pool = Pool::of(60);
    let engine = EchoEngine::start(&pool).await;
    let long = request(Random(11).tokens(20), 300);
    let refused = Request { variant: REFUSED, ..long.clone() };
    let (answer, refused) = futures::join!(engine.ask(&long), engine.ask(&refused));
    assert_eq!(answer, Ok(expected(&long, &pool)));
    let refused = refused.unwrap_err();
    assert!(refused.starts_with("the model has no such variant"), "{refused}");
}
