//! Fields that OpenAI's clients rely on, called through the router.

mod choices;
mod fields;
mod logprobs;
mod text;
mod tools;

use std::path::Path;

use axum::body::{to_bytes, Body};
use axum::http::{header, Method, Request, StatusCode};
use axum::Router;
use colm::serve::ServeOptions;
use colm_testing::engine::{engine, options};
use colm_testing::folders::shipped;
use colm_testing::random_model::with;
use serde_json::{json, Value};
use tower::ServiceExt;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// The answer to [`question`].
const SORTED: &str = "3 18 71 93";

async fn server() -> Router {
    let engine = engine(&options(Path::new(&shipped("tiny-colm-air")))).await;
    colm::serve::router(&engine, ServeOptions::default()).unwrap()
}

async fn send(router: &Router, path: &str, body: &Value) -> (StatusCode, String) {
    let request = Request::builder().method(Method::POST).uri(path);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body.to_string())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn answer(router: &Router, path: &str, body: &Value) -> Value {
    let (status, answer) = send(router, path, body).await;
    assert_eq!(status, StatusCode::OK, "{body} got {answer}");
    serde_json::from_str(&answer).unwrap()
}

/// The chunks of a stream, which must end with `[DONE]`.
async fn chunks(router: &Router, path: &str, body: &Value) -> Vec<Value> {
    let body = with(body.clone(), |body| body["stream"] = json!(true));
    let (status, events) = send(router, path, &body).await;
    assert_eq!(status, StatusCode::OK, "{body} got {events}");
    let mut data: Vec<&str> =
        events.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    assert_eq!(data.pop(), Some("[DONE]"), "{events}");
    data.into_iter().map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// The text and the finish reason of the choice at `index`, joined from `chunks`.
fn joined(chunks: &[Value], index: usize) -> (String, Vec<String>) {
    let choices = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
    let choices: Vec<&Value> = choices.filter(|choice| choice["index"] == index).collect();
    let text = |choice: &&Value| {
        let text = choice.get("text").unwrap_or(&choice["delta"]["content"]);
        text.as_str().unwrap_or_default().to_string()
    };
    let reasons = choices.iter().filter_map(|choice| choice["finish_reason"].as_str());
    (choices.iter().map(text).collect(), reasons.map(ToString::to_string).collect())
}

fn question(fields: Value) -> Value {
    let request = json!({
        "messages": [{"role": "user", "content": "Sort 93 3 71 18."}], "temperature": 0,
    });
    with(request, |request| {
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    })
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}
