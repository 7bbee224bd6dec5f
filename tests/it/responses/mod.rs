//! `POST /v1/responses`, called through the router.

mod description;
mod text;
mod tool_calls;

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

const RESPONSES: &str = "/v1/responses";
const CHAT: &str = "/v1/chat/completions";
const QUESTION: &str = "Sort 93 3 71 18.";
const ANSWER: &str = "3 18 71 93";
const LOGPROBS: &str = "message.output_text.logprobs";

/// The router of an engine.
struct Server(Router);

impl Server {
    async fn start() -> Self {
        let engine = engine(&options(Path::new(&shipped("tiny-colm-air")))).await;
        Self(colm::serve::router(&engine, ServeOptions::default()).unwrap())
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = self.0.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The whole answer to `body`.
    async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.send(Method::POST, path, body).await;
        assert_eq!(status, StatusCode::OK, "{body} got {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// The greedy answer to `input` with the fields of `fields`.
    async fn answer(&self, input: Value, fields: Value) -> Value {
        self.post(RESPONSES, &question(input, fields)).await
    }

    /// The events of the same answer, streamed.
    async fn events(&self, input: Value, fields: Value) -> Vec<Value> {
        let body = with(question(input, fields), |body| body["stream"] = json!(true));
        let (status, events) = self.send(Method::POST, RESPONSES, &body).await;
        assert_eq!(status, StatusCode::OK, "{body} got {events}");
        let events = events.trim_end().split("\n\n").enumerate().map(|(index, event)| {
            let (name, data) = event.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
            assert_eq!(data["sequence_number"], index);
            data
        });
        events.collect()
    }
}

/// A greedy request with the fields of `fields`.
fn question(input: Value, fields: Value) -> Value {
    with(json!({"input": input, "temperature": 0}), |request| {
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    })
}

fn tools() -> Value {
    let number = json!({"type": "integer", "minimum": 0, "maximum": 99});
    let parameters = json!({
        "type": "object", "properties": {"a": number, "b": number},
        "required": ["a", "b"], "additionalProperties": false,
    });
    json!([{"type": "function", "name": "add", "parameters": parameters, "strict": true}])
}

/// The text of the first item.
fn text(answer: &Value) -> &str {
    answer["output"][0]["content"][0]["text"].as_str().unwrap()
}

/// `answer` without ids and times, which differ between answers.
fn without_ids(answer: &Value) -> Value {
    with(answer.clone(), |answer| {
        for field in ["id", "created_at", "usage"] {
            answer[field].take();
        }
        for item in answer["output"].as_array_mut().unwrap() {
            let item = item.as_object_mut().unwrap();
            item.retain(|field, _| field != "id" && field != "call_id");
        }
    })
}

/// The values of a field in all events of a type, joined.
fn joined(events: &[Value], kind: &str, field: &str) -> String {
    let events = events.iter().filter(|event| event["type"] == kind);
    events.map(|event| event[field].as_str().unwrap()).collect()
}
