//! `POST /v1/responses`, called through the router.

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

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_answered_at_any_chain_count() {
    let server = Server::start().await;
    let answer = server.answer(json!(QUESTION), json!({})).await;
    assert_eq!(text(&answer), ANSWER);
    for (field, value) in [
        ("object", json!("response")),
        ("status", json!("completed")),
        ("model", json!("tiny-colm-air@4")),
        ("error", Value::Null),
        ("incomplete_details", Value::Null),
        ("store", json!(false)),
        ("text", json!({"format": {"type": "text"}})),
    ] {
        assert_eq!(answer[field], value, "{field}");
    }
    assert_eq!(answer["output"].as_array().unwrap().len(), 1);
    assert_eq!(answer["output"][0]["type"], "message");
    let usage = &answer["usage"];
    let [input, output, total] = ["input_tokens", "output_tokens", "total_tokens"]
        .map(|field| usage[field].as_u64().unwrap());
    assert!(input > 0 && output > 0 && total == input + output, "{usage}");
    for fields in [json!({"chains": 2}), json!({"model": "tiny-colm-air@2"})] {
        let answer = server.answer(json!(QUESTION), fields).await;
        assert_eq!(answer["model"], "tiny-colm-air@2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_the_text_of_the_answer() {
    let server = Server::start().await;
    let fields = json!({"include": [LOGPROBS], "top_logprobs": 2});
    let answer = server.answer(json!(QUESTION), fields.clone()).await;
    let events = server.events(json!(QUESTION), fields).await;
    assert_eq!(joined(&events, "response.output_text.delta", "delta"), ANSWER);
    let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    assert!(deltas.clone().count() > 2);
    let logprobs: Vec<&Value> =
        deltas.flat_map(|event| event["logprobs"].as_array().unwrap()).collect();
    let part = &answer["output"][0]["content"][0];
    assert_eq!(json!(logprobs), part["logprobs"]);
    let tokens = logprobs.iter().map(|logprob| logprob["token"].as_str().unwrap());
    assert_eq!(tokens.collect::<String>(), ANSWER);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(without_ids(&last["response"]), without_ids(&answer));
    assert_eq!(last["response"]["usage"]["output_tokens"], answer["usage"]["output_tokens"]);
    let id = &last["response"]["output"][0]["id"];
    assert!(events.iter().all(|event| event["item_id"].is_null() || event["item_id"] == *id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_answered_as_in_chat() {
    let server = Server::start().await;
    let tool = |tools: Value| {
        with(json!({"type": "function"}), |tool| {
            tool["function"] = with(tools[0].clone(), |tool| {
                tool.as_object_mut().unwrap().remove("type");
            });
        })
    };
    let arguments = r#"{"a": 27, "b": 58}"#;
    let input = json!([
        {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
        {"type": "message", "role": "assistant", "status": "completed", "id": "msg_1",
         "content": [{"type": "output_text", "text": ANSWER, "annotations": []}]},
        {"role": "user", "content": "What is 27 + 58?"},
        {"type": "function_call", "call_id": "c", "name": "add", "arguments": arguments},
        {"type": "function_call_output", "call_id": "c", "output": "85"},
    ]);
    let fields = json!({"instructions": "be brief", "tools": tools(), "max_output_tokens": 20});
    let answer = server.answer(input, fields).await;
    let function = json!({"name": "add", "arguments": arguments});
    let chat = json!({
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": ANSWER},
            {"role": "user", "content": "What is 27 + 58?"},
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": function}]},
            {"role": "tool", "content": "85", "tool_call_id": "c"},
        ],
        "tools": [tool(tools())], "temperature": 0, "max_tokens": 20,
    });
    let chat = server.post(CHAT, &chat).await;
    assert_eq!(answer["usage"]["input_tokens"], chat["usage"]["prompt_tokens"]);
    assert_eq!(text(&answer), chat["choices"][0]["message"]["content"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_tool_call_is_an_output_item() {
    let server = Server::start().await;
    for choice in [json!("required"), json!({"type": "function", "name": "add"})] {
        let fields = json!({"tools": tools(), "tool_choice": choice});
        let answer = server.answer(json!("What is 27 + 58?"), fields.clone()).await;
        assert_eq!(answer["output"].as_array().unwrap().len(), 1);
        let call = &answer["output"][0];
        assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("add")));
        assert_eq!(call["status"], "completed");
        let arguments = call["arguments"].as_str().unwrap();
        let read: Value = serde_json::from_str(arguments).unwrap();
        assert!(read["a"].is_u64() && read["b"].is_u64(), "{arguments}");

        let events = server.events(json!("What is 27 + 58?"), fields).await;
        assert_eq!(joined(&events, "response.function_call_arguments.delta", "delta"), arguments);
        let last = events.last().unwrap();
        assert_eq!(without_ids(&last["response"]), without_ids(&answer));
    }
}

/// The items are sent back with ids, statuses and log-probabilities.
#[tokio::test(flavor = "multi_thread")]
async fn output_items_are_accepted_as_input() {
    let server = Server::start().await;
    let first = json!({"role": "user", "content": QUESTION});
    let fields = json!({"include": [LOGPROBS]});
    let answer = server.answer(json!([first]), fields).await;
    let next = json!({"role": "user", "content": "What is 27 + 58?"});
    let answer = server.answer(json!([first, answer["output"][0], next]), json!({})).await;
    assert_eq!(text(&answer), "85");
    let fields = json!({"tools": tools(), "tool_choice": "required"});
    let answer = server.answer(json!([next]), fields).await;
    server.answer(json!([next, answer["output"][0]]), json!({"max_output_tokens": 4})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_answer_is_incomplete() {
    let server = Server::start().await;
    let fields = json!({"max_output_tokens": 3});
    let answer = server.answer(json!(QUESTION), fields.clone()).await;
    assert_eq!(answer["status"], "incomplete");
    assert_eq!(answer["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(answer["output"][0]["status"], "incomplete");
    assert!(ANSWER.starts_with(text(&answer)));
    let events = server.events(json!(QUESTION), fields).await;
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(without_ids(&last["response"]), without_ids(&answer));
    let fields = json!({"max_output_tokens": 12, "tools": tools(), "tool_choice": "required"});
    let answer = server.answer(json!(QUESTION), fields).await;
    assert_eq!(
        (&answer["status"], &answer["output"][0]["status"]),
        (&json!("incomplete"), &json!("incomplete"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_follows_the_requested_format() {
    let server = Server::start().await;
    let schema = json!({
        "type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["n"], "additionalProperties": false,
        "x-guidance": {"whitespace_flexible": false},
    });
    let format = json!({"type": "json_schema", "name": "n", "schema": schema, "strict": true});
    let answer = server.answer(json!(QUESTION), json!({"text": {"format": format}})).await;
    let read: Value = serde_json::from_str(text(&answer)).unwrap();
    assert!((1..10).contains(&read["n"].as_u64().unwrap()), "{read}");
    assert_eq!(answer["text"]["format"]["schema"], schema);
    let grammar = json!({"type": "regex", "value": "[a-c]{4}"});
    let answer = server.answer(json!(QUESTION), json!({"grammar": grammar})).await;
    assert!(text(&answer).len() == 4 && text(&answer).chars().all(|c| "abc".contains(c)));
    let answer = server.answer(json!(QUESTION), json!({"stop": "71"})).await;
    assert_eq!((text(&answer), &answer["status"]), ("3 18 ", &json!("completed")));
}

/// The error comes before any part of an answer, streamed or not.
#[tokio::test(flavor = "multi_thread")]
async fn fields_that_need_server_state_fail_with_their_name() {
    let server = Server::start().await;
    for (field, value) in [
        ("store", json!(true)),
        ("background", json!(true)),
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!("conv_1")),
        ("prompt", json!({"id": "p"})),
        ("max_tool_calls", json!(1)),
    ] {
        for stream in [false, true] {
            let fields = with(json!({"stream": stream}), |fields| fields[field] = value.clone());
            let body = question(json!(QUESTION), fields);
            let (status, answer) = server.send(Method::POST, RESPONSES, &body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{body} got {answer}");
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let error = &answer["error"];
            assert_eq!(
                (&error["param"], &error["code"]),
                (&json!(field), &json!("unsupported_parameter"))
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_description_has_requests_answers_and_events() {
    let server = Server::start().await;
    let (_, document) = server.send(Method::GET, "/api-doc/openapi.json", &Value::Null).await;
    let document: Value = serde_json::from_str(&document).unwrap();
    let post = &document["paths"][RESPONSES]["post"];
    let body = &post["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(body, "#/components/schemas/ResponseRequest");
    for schema in
        ["ResponseRequest", "InputItem", "TextFormat", "ResponseBody", "OutputItem", "EventData"]
    {
        assert!(document["components"]["schemas"][schema].is_object(), "{schema}");
    }
}
