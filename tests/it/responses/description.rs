//! What is refused, and the description of the API.

use axum::http::{Method, StatusCode};
use colm_testing::random_model::with;
use serde_json::{json, Value};

use super::{question, Server, QUESTION, RESPONSES};

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
