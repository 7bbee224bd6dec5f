//! Answers, complete and streamed.

use axum::http::{Method, StatusCode};
use serde_json::{json, Value};

use super::{question, Server, CHAT, NEW_TOKENS};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_the_text_of_the_answer() {
    let server = Server::start().await;
    let (answer, model) = server.answer(json!({"chains": 3})).await;
    let request =
        question(json!({"chains": 3, "stream": true, "stream_options": {"include_usage": true}}));
    let (status, events) = server.send(Method::POST, CHAT, request.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    let (chunks, end) = events.trim_end().rsplit_once("\n\n").unwrap();
    assert_eq!(end, "data: [DONE]");
    let chunks = chunks.split("\n\n").map(|event| event.strip_prefix("data: ").unwrap());
    let chunks: Vec<Value> = chunks.map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
    assert!(chunks.len() > 1, "{events}");
    assert!(chunks.iter().all(|chunk| chunk["model"] == *model), "{events}");
    let pieces = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    assert_eq!(pieces.collect::<String>(), answer);
    let (last, before) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], NEW_TOKENS);
    assert_eq!(before.last().unwrap()["choices"][0]["finish_reason"], "length");
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_numbers_are_accepted() {
    let server = Server::start().await;
    for fields in [
        json!({"max_tokens": 0}),
        json!({"max_tokens": 1_000_000_000}),
        json!({"max_tokens": 1_000_000_000, "max_completion_tokens": 3}),
        json!({"temperature": 2, "top_p": 1e-9}),
        json!({"temperature": 1, "top_p": 0, "top_k": 0}),
        json!({"logprobs": true, "top_logprobs": 20}),
        json!({"stop": []}),
    ] {
        server.answer(fields).await;
    }
}
