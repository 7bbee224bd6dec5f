//! Several answers to a request.

use std::path::Path;

use colm::serve::ServeOptions;
use colm_testing::engine::{engine, options};
use colm_testing::folders::shipped;
use colm_testing::random_model::with;
use serde_json::{json, Value};

use super::{answer, chunks, content, joined, question, server, CHAT, COMPLETIONS};

#[tokio::test(flavor = "multi_thread")]
async fn every_choice_of_a_stream_ends_and_usage_counts_all_choices() {
    let router = server().await;
    let warm = json!({"n": 4, "temperature": 1.5, "seed": 3, "max_tokens": 12});
    let whole = answer(&router, CHAT, &question(warm.clone())).await;
    let body = question(with(warm, |body| body["stream_options"] = json!({"include_usage": true})));
    let pieces = chunks(&router, CHAT, &body).await;
    for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
        assert_eq!(choice["index"], index);
        let (text, reasons) = joined(&pieces, index);
        assert_eq!(text, choice["message"]["content"], "{index}");
        assert_eq!(json!(reasons), json!([choice["finish_reason"]]));
        // Choice i of n is the only choice with seed + i.
        let alone = json!({"temperature": 1.5, "seed": 3 + index, "max_tokens": 12});
        assert_eq!(content(&answer(&router, CHAT, &question(alone)).await), text);
    }
    let usage = &pieces.last().unwrap()["usage"];
    assert_eq!(usage["completion_tokens"], whole["usage"]["completion_tokens"]);
    assert_eq!(usage["prompt_tokens"], whole["usage"]["prompt_tokens"]);
    let one = answer(&router, CHAT, &question(json!({"max_tokens": 12}))).await;
    assert_eq!(usage["prompt_tokens"], one["usage"]["prompt_tokens"]);
    assert!(usage["completion_tokens"].as_u64() > one["usage"]["completion_tokens"].as_u64());
    let without = chunks(&router, CHAT, &question(json!({}))).await;
    assert!(without.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn best_of_returns_the_answers_with_the_highest_mean_logprob() {
    let router = server().await;
    let body =
        json!({"prompt": "a dog", "temperature": 1.5, "seed": 9, "max_tokens": 8, "logprobs": 0});
    let all = answer(&router, COMPLETIONS, &with(body.clone(), |body| body["n"] = json!(6))).await;
    let mean = |choice: &Value| {
        let all = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        all.iter().map(|one| one.as_f64().unwrap()).sum::<f64>() / all.len() as f64
    };
    let mut means: Vec<f64> = all["choices"].as_array().unwrap().iter().map(mean).collect();
    means.sort_by(|a, b| b.total_cmp(a));
    let body = with(body, |body| (body["n"], body["best_of"]) = (json!(2), json!(6)));
    let best = answer(&router, COMPLETIONS, &body).await;
    let found: Vec<f64> = best["choices"].as_array().unwrap().iter().map(mean).collect();
    assert_eq!(found.len(), 2);
    assert!(found.iter().zip(&means).all(|(a, b)| (a - b).abs() < 0.2), "{found:?} of {means:?}");
}

/// A prompt with several choices is computed once.
#[tokio::test(flavor = "multi_thread")]
async fn several_choices_share_their_prompt() {
    let engine = engine(&options(Path::new(&shipped("tiny-colm-air")))).await;
    let router = colm::serve::router(&engine, ServeOptions::default()).unwrap();
    let prompt: Vec<u32> = (0..320).map(|at| 5 + at % 600).collect();
    let body = json!({"prompt": prompt, "n": 8, "temperature": 1.2, "seed": 1, "max_tokens": 4});
    let together = answer(&router, COMPLETIONS, &body).await;
    let computed = engine.counts().prompt;
    assert!(computed < 320 + 8 * 64, "{computed} tokens were computed");
    for index in 0..8 {
        let alone =
            with(body.clone(), |body| (body["n"], body["seed"]) = (json!(1), json!(1 + index)));
        let alone = answer(&router, COMPLETIONS, &alone).await;
        assert_eq!(alone["choices"][0]["text"], together["choices"][index]["text"]);
    }
}
