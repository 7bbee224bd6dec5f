//! Chat templates see the fields of a request as it was sent, in the same order, as in transformers.

use axum::body::{to_bytes, Body};
use axum::http::{header, Method, Request, StatusCode};
use axum::Router;
use colm::serve::ServeOptions;
use colm_testing::engine::{engine, options};
use serde_json::{json, Value};
use tower::ServiceExt;

use crate::folders::model_folder::Folder;

/// A server whose chat template fails for every conversation, with `shown` in the message.
async fn server(shown: &str) -> Router {
    let template = format!("{{{{ raise_exception({shown}) }}}}");
    let folder = Folder::new().with_template(&template);
    let engine = engine(&options(&folder.path(""))).await;
    colm::serve::router(&engine, ServeOptions::default()).unwrap()
}

/// The template's message for the request `body`.
async fn shown(router: &Router, path: &str, body: &str) -> String {
    let request = Request::builder().method(Method::POST).uri(path);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body.to_string())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    let message = body["error"]["message"].as_str().unwrap();
    message.strip_prefix("the chat template refuses this conversation: ").unwrap_or(message).into()
}

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";

#[tokio::test(flavor = "multi_thread")]
async fn templates_see_tools_as_they_were_sent() {
    let router = server("tools|tojson").await;
    let tools = r#"[{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"z": {"type": "string", "description": "it's <b> & é"}, "a": {"type": "number", "default": 1.0}}, "required": ["z"]}}}]"#;
    let body = format!(r#"{{"messages": [{{"role": "user", "content": "x"}}], "tools": {tools}}}"#);
    assert_eq!(shown(&router, CHAT, &body).await, tools);
    let hidden = body.replace("\"tools\"", "\"tool_choice\": \"none\", \"tools\"");
    assert_eq!(shown(&router, CHAT, &hidden).await, "null");
    let body = r#"{"input": "x", "tools": [{"type": "function", "parameters": {"type": "object", "b": 1, "a": 2}, "name": "f"}]}"#;
    let expected = r#"[{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "b": 1, "a": 2}}}]"#;
    assert_eq!(shown(&router, RESPONSES, body).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_see_earlier_tool_calls_once_with_arguments_as_objects() {
    let router = server("messages|tojson").await;
    let body = r#"{"messages": [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": null, "refusal": null, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"z\": 1, \"a\": [true]}"}}
        ]},
        {"role": "tool", "content": "c", "tool_call_id": "1", "name": "f"},
        {"role": "assistant", "content": "d", "tool_calls": []},
        {"role": "developer", "content": "e", "extra": {"b": 1, "a": null}}
    ]}"#;
    let expected = concat!(
        r#"[{"role": "user", "content": "a\nb"}, "#,
        r#"{"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": "#,
        r#"{"name": "f", "arguments": {"z": 1, "a": [true]}}}]}, "#,
        r#"{"role": "tool", "content": "c", "tool_call_id": "1", "name": "f"}, "#,
        r#"{"role": "assistant", "content": "d"}, "#,
        r#"{"role": "system", "content": "e", "extra": {"b": 1, "a": null}}]"#,
    );
    assert_eq!(shown(&router, CHAT, body).await, expected);
    let body = r#"{"input": [
        {"role": "user", "content": "a"},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{\"z\": 1}"},
        {"type": "function_call_output", "call_id": "1", "output": "c"}
    ]}"#;
    let expected = concat!(
        r#"[{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": "#,
        r#"[{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"z": 1}}}]}, "#,
        r#"{"role": "tool", "content": "c", "tool_call_id": "1"}]"#,
    );
    assert_eq!(shown(&router, RESPONSES, body).await, expected);
}

/// Variables that the request does not set are undefined.
#[tokio::test(flavor = "multi_thread")]
async fn templates_see_the_variables_of_the_request() {
    let router = server(
        "[enable_thinking|default('none'), reasoning_effort|default('none'), own|default('none'), \
         bos_token|default('none'), eos_token]|tojson",
    )
    .await;
    let body = |others: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
        body.to_string()
    };
    let plain = shown(&router, CHAT, &body(json!({}))).await;
    assert_eq!(plain, r#"["none", "none", "none", "none", "<|end|>"]"#);
    let own = json!({"own": [1], "bos_token": "<s>"});
    let said = json!({
        "enable_thinking": false, "reasoning_effort": "low", "chat_template_kwargs": own,
    });
    let said = shown(&router, CHAT, &body(said)).await;
    assert_eq!(said, r#"[false, "low", [1], "<s>", "<|end|>"]"#);
    let messages = json!({"chat_template_kwargs": {"messages": []}});
    let refused = shown(&router, CHAT, &body(messages)).await;
    assert!(refused.contains("messages is set by the server"), "{refused}");
    let twice =
        json!({"enable_thinking": true, "chat_template_kwargs": {"enable_thinking": false}});
    let refused = shown(&router, CHAT, &body(twice)).await;
    assert!(refused.contains("enable_thinking is given twice"), "{refused}");
}

/// Templates that render content parts get them; others get the text of the parts.
#[tokio::test(flavor = "multi_thread")]
async fn templates_that_render_parts_get_them() {
    let shows_parts = "{%- for part in messages[0].content if part.text is defined -%}[{{ part.text }}]{%- endfor -%}";
    let folder = Folder::new().with_template(&format!(
        "{shows_parts}{{%- if messages[0].content is not string -%}}{{{{ raise_exception(messages|tojson) }}}}{{%- endif -%}}-"
    ));
    let engine = engine(&options(&folder.path(""))).await;
    let router = colm::serve::router(&engine, ServeOptions::default()).unwrap();
    let body = r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}"#;
    // A template that fails when it is probed with content parts gets text.
    let answer = shown_or_answered(&router, body).await;
    assert!(answer.contains("chat.completion") && !answer.contains("error"), "{answer}");
    let folder = Folder::new().with_template(&format!("{shows_parts}<|assistant|>"));
    let engine = colm_testing::engine::engine(&options(&folder.path(""))).await;
    let usage = |content: Value| {
        let messages =
            vec![json!({"role": "user", "content": content}).as_object().unwrap().clone()];
        let conversation = colm::Conversation { messages, ..colm::Conversation::default() };
        let prompt = colm::Prompt::Conversation(Box::new(conversation));
        let request = colm::Request::new(prompt).max_tokens(1);
        async { engine.answer(request).await.unwrap().usage.prompt_tokens }
    };
    let part = |text: &str| json!({"type": "text", "text": text});
    assert_eq!(usage(json!("text")).await, 1, "the template shows parts only");
    assert!(usage(json!([part("a"), part("b")])).await > usage(json!([part("a")])).await);
}

async fn shown_or_answered(router: &Router, body: &str) -> String {
    let request = Request::builder().method(Method::POST).uri(CHAT);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body.to_string())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}
