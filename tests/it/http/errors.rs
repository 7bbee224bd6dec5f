//! The bodies of error responses.

use axum::http::{Method, StatusCode};
use colm_testing::random_model::with;
use serde_json::{json, Value};

use super::{question, Server, CHAT};

#[tokio::test(flavor = "multi_thread")]
async fn all_errors_have_the_same_shape() {
    let server = Server::start().await;
    let long = "a ".repeat(600);
    let long = json!({"messages": [{"role": "user", "content": long}]});
    let streamed = with(long.clone(), |request| request["stream"] = json!(true));
    let no_content = json!({"messages": [{"role": "user", "content": null}]});
    let format = |schema: Value| {
        let schema = json!({"name": "a", "schema": schema});
        json!({"response_format": {"type": "json_schema", "json_schema": schema}})
    };
    let refused = [
        (CHAT, question(long), json!("messages")),
        (CHAT, question(streamed), json!("messages")),
        (
            CHAT,
            question(json!({"stream_options": {"include_usage": true}})),
            json!("stream_options"),
        ),
        (CHAT, question(json!({"messages": 5})), json!("messages")),
        (CHAT, question(json!({"max_tokens": -1})), json!("max_tokens")),
        (CHAT, question(json!({"temperature": "hot"})), json!("temperature")),
        (CHAT, question(json!({"grammar": {"type": "regex", "value": "("}})), json!("grammar")),
        (
            CHAT,
            question(
                json!({"grammar": {"type": "lark", "value": "start: a\na[temperature=0]: /x/"}}),
            ),
            json!("grammar"),
        ),
        (
            CHAT,
            question(json!({"grammar": {
                "type": "llguidance",
                "value": {"grammars": [{"lark_grammar": "start: /x/"}], "max_tokens": 2},
            }})),
            json!("grammar"),
        ),
        (
            CHAT,
            question(json!({
                "response_format": {"type": "text"}, "grammar": {"type": "regex", "value": "("},
            })),
            json!("grammar"),
        ),
        (CHAT, question(format(json!({"type": "foo"}))), json!("response_format")),
        (CHAT, question(format(json!({"oneOf": [{}, {}]}))), json!("response_format")),
        (CHAT, question(json!({"logit_bias": {"99999": 1}})), json!("logit_bias")),
        (
            CHAT,
            question(json!({"dry_multiplier": 1, "dry_allowed_length": 51})),
            json!("dry_allowed_length"),
        ),
        (
            CHAT,
            question(json!({"dry_multiplier": 1, "dry_sequence_breakers": ["and so on"]})),
            json!("dry_sequence_breakers"),
        ),
        ("/v1/completions", json!({"prompt": [99999]}), json!("prompt")),
        (CHAT, json!({}), json!("messages")),
        (CHAT, json!([]), Value::Null),
        ("/v1/completions", json!({"prompt": ""}), json!("prompt")),
        (
            "/v1/completions",
            json!({"prompt": vec![5; 300], "n": 8, "max_tokens": 1, "echo": true, "logprobs": 20}),
            json!("echo"),
        ),
        (
            "/v1/completions",
            json!({"prompt": vec![5; 300], "n": 100, "max_tokens": 1, "echo": true}),
            json!("echo"),
        ),
        (CHAT, question(no_content), json!("messages[0].content")),
        (CHAT, question(json!({"n": 1000})), json!("n")),
        ("/v1/completions", json!({"prompt": "a", "best_of": 200}), json!("best_of")),
        ("/v1/completions", json!({"prompt": vec!["a"; 200]}), json!("prompt")),
    ];
    for (path, request, param) in refused {
        let message = server.refusal(path, &request, StatusCode::BAD_REQUEST, param).await;
        assert!(!message.is_empty() && !message.starts_with('{'), "{message}");
    }
    server.refusal("/v1/no/such/route", &json!({}), StatusCode::NOT_FOUND, Value::Null).await;
    let (status, answer) = server.send(Method::POST, CHAT, "{not json".into()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    let (status, answer) = server.get("/v1/models/%ff").await;
    assert_eq!((status, &answer["error"]["param"]), (StatusCode::NOT_FOUND, &json!("model")));
    let (status, answer) = server.get(CHAT).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{answer}");
    // The server still answers.
    server.answer(json!({})).await;
}
