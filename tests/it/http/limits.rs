//! The limits of the server.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use colm::serve::{ServeLimits, ServeOptions};
use futures::future::join_all;
use serde_json::json;
use tower::ServiceExt;

use super::{question, Server, CHAT};

async fn limited(change: impl FnOnce(&mut ServeLimits)) -> Server {
    let mut limits = ServeLimits::default();
    change(&mut limits);
    Server::with(ServeOptions::default().limits(limits)).await
}

/// The server runs 2 answers, and one may wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_requests() {
    let server = limited(|limits| limits.max_queue = 1).await;
    let long = question(json!({"max_tokens": 200, "logit_bias": {"0": -100}}));
    let send = || async {
        let request = Request::builder().method("POST").uri(CHAT);
        let request = request.header("content-type", "application/json");
        let request = request.body(Body::from(long.to_string())).unwrap();
        let response = server.router.clone().oneshot(request).await.unwrap();
        (response.status(), response.headers().get("retry-after").cloned())
    };
    let answers = join_all((0..20).map(|_| send())).await;
    let refused: Vec<_> = answers.iter().filter(|(status, _)| *status == 429).collect();
    let answered = answers.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!((answered, refused.len()), (3, 17), "{answers:?}");
    for (_, retry_after) in refused {
        let seconds: u64 = retry_after.as_ref().unwrap().to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    // Later there is room again, also for as many answers as may run and wait.
    assert_eq!(send().await.0, StatusCode::OK);
    let (status, body) = server.post(CHAT, &question(json!({"n": 3}))).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let (status, body) = server.post(CHAT, &question(json!({"n": 4}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("at most 3"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_answers_and_bodies_are_bounded() {
    let server = limited(|limits| {
        limits.max_prompt_tokens = Some(30);
        limits.max_output_tokens = Some(5);
        limits.max_body_bytes = Some(500);
    })
    .await;
    let completion = |tokens: usize, fields| {
        super::with(json!({"prompt": vec![1; tokens], "max_tokens": 5}), |request| {
            let serde_json::Value::Object(fields) = fields else { return };
            request.as_object_mut().unwrap().extend(fields);
        })
    };
    let path = "/v1/completions";
    let (status, _) = server.post(path, &completion(30, json!({}))).await;
    assert_eq!(status, StatusCode::OK);
    let (status, body) = server.post(path, &completion(31, json!({}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["error"]["code"], "context_length_exceeded", "{body}");
    let (status, body) = server.post(path, &completion(3, json!({"max_tokens": 6}))).await;
    assert_eq!((status, &body["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("max_tokens")));
    for (path, field, mut body) in [
        (CHAT, "max_tokens", question(json!({}))),
        (CHAT, "max_completion_tokens", question(json!({"max_tokens": 7}))),
        ("/v1/responses", "max_output_tokens", json!({"input": "a"})),
    ] {
        body[field] = json!(6);
        let (status, body) = server.post(path, &body).await;
        assert_eq!((status, &body["error"]["param"]), (StatusCode::BAD_REQUEST, &json!(field)));
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("6: expected at most 5"), "{message}");
    }
    // Not the default of 16 tokens.
    let short = json!({"prompt": "a", "logit_bias": {"0": -100}, "n": 128});
    let (status, body) = server.post(path, &short).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::OK, &json!(null)), "{body}");
    assert_eq!(body["usage"]["completion_tokens"], 5 * 128, "{body}");
    let chat = json!({"messages": [{"role": "user", "content": "a"}], "logit_bias": {"0": -100}});
    let (status, body) = server.post(CHAT, &chat).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(
        (&body["usage"]["completion_tokens"], &body["choices"][0]["finish_reason"]),
        (&json!(5), &json!("length"))
    );
    let (status, _) = server.post(path, &completion(300, json!({}))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_end_at_their_timeout() {
    let server = limited(|limits| limits.request_timeout = Some(Duration::from_millis(300))).await;
    let long = json!({"max_tokens": 100_000, "n": 2, "logit_bias": {"0": -100}, "repetition_penalty": 1.1});
    let long = question(super::with(long, |fields| fields["max_tokens"] = 480.into()));
    let slow = || async {
        let answers = (0..16).map(|_| server.post(CHAT, &long));
        join_all(answers).await
    };
    let answers = slow().await;
    let timed_out =
        answers.iter().filter(|(status, _)| *status == StatusCode::GATEWAY_TIMEOUT).count();
    assert!(timed_out > 0, "{answers:?}");
    let streamed = super::with(long.clone(), |request| request["stream"] = true.into());
    let streams =
        (0..16).map(|_| server.send(axum::http::Method::POST, CHAT, streamed.to_string()));
    let streams = join_all(streams).await;
    let cut = streams.iter().filter(|(_, text)| text.contains("took longer than 0.3 s")).count();
    assert!(cut > 0, "{streams:?}");
    // In the form of the other events of a response.
    let streamed = json!({
        "input": "which is it, a or b?", "stream": true, "max_output_tokens": 480,
        "logit_bias": {"0": -100}, "repetition_penalty": 1.1,
    });
    let path = "/v1/responses";
    let streams =
        (0..16).map(|_| server.send(axum::http::Method::POST, path, streamed.to_string()));
    let streams = join_all(streams).await;
    let last = |text: &str| text.trim_end().rsplit("\n\n").next().unwrap().to_string();
    let cut: Vec<String> = streams.iter().map(|(_, text)| last(text)).collect();
    let cut: Vec<&String> = cut.iter().filter(|event| event.contains("took longer")).collect();
    assert!(!cut.is_empty(), "{streams:?}");
    for event in cut {
        let data = event.strip_prefix("event: error\ndata: ").unwrap_or_else(|| panic!("{event}"));
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert!(data["type"] == "error" && data["sequence_number"].is_u64(), "{event}");
    }
    // The server is free again.
    let (status, body) = server.post(CHAT, &question(json!({"max_tokens": 1}))).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}
