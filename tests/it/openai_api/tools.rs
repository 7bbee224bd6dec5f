//! Tool calls, forced or written as text.

use colm_testing::random_model::with;
use serde_json::{json, Value};

use super::{answer, chunks, content, joined, question, server, CHAT};

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_tool_call_is_returned_as_a_call() {
    let router = server().await;
    let parameters = json!({
        "type": "object", "properties": {"city": {"enum": ["é", "b"]}, "days": {"type": "boolean"}},
        "required": ["city", "days"], "additionalProperties": false,
    });
    let tools =
        json!([{"type": "function", "function": {"name": "weather", "parameters": parameters}}]);
    let named = json!({"type": "function", "function": {"name": "weather"}});
    for (choice, reason) in [(named, "stop"), (json!("required"), "tool_calls")] {
        let body = question(json!({"tools": tools, "tool_choice": choice}));
        let whole = answer(&router, CHAT, &body).await;
        let message = &whole["choices"][0]["message"];
        let call = &message["tool_calls"][0];
        assert_eq!(
            (&call["type"], &call["function"]["name"]),
            (&json!("function"), &json!("weather"))
        );
        let arguments: Value =
            serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
        assert!(arguments["city"].is_string() && arguments["days"].is_boolean(), "{arguments}");
        assert_eq!(
            (&message["content"], &whole["choices"][0]["finish_reason"]),
            (&Value::Null, &json!(reason))
        );
        let pieces = chunks(&router, CHAT, &body).await;
        assert_eq!(joined(&pieces, 0), (String::new(), vec![reason.to_string()]));
        let calls: Vec<&Value> = pieces
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array())
            .flatten()
            .collect();
        assert_eq!(calls.len(), 1);
        // The `openai` client reports a call as complete when a later piece comes.
        let last = &pieces.last().unwrap()["choices"][0];
        assert_eq!((&last["delta"], &last["finish_reason"]), (&json!({}), &json!(reason)));
        assert_eq!((&calls[0]["index"], &calls[0]["function"]), (&json!(0), &call["function"]));
    }
}

/// Text that looks like a tool call, forced by a grammar, is a call if the request has tools and text otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn calls_in_text_are_parsed_if_there_are_tools() {
    let router = server().await;
    let written = r#"Well. <tool_call>{"name": "f", "arguments": {"a": 1.50}}</tool_call><tool_call>{"name": "g", "arguments": {}}</tool_call>"#;
    let escaped = regex::escape(written);
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let body = question(json!({"grammar": {"type": "regex", "value": escaped}, "max_tokens": 200}));
    let text = answer(&router, CHAT, &body).await;
    assert_eq!(content(&text), written);
    assert_eq!(text["choices"][0]["message"].get("tool_calls"), None);
    let body = with(body, |body| body["tools"] = json!([tool("f"), tool("g")]));
    let whole = answer(&router, CHAT, &body).await;
    let calls = whole["choices"][0]["message"]["tool_calls"].as_array().unwrap();
    let called: Vec<&Value> = calls.iter().map(|call| &call["function"]).collect();
    let expected = [
        json!({"name": "f", "arguments": "{\"a\": 1.50}"}),
        json!({"name": "g", "arguments": "{}"}),
    ];
    assert_eq!(called, expected.iter().collect::<Vec<_>>());
    assert_eq!(content(&whole), "Well.");
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    let pieces = chunks(&router, CHAT, &body).await;
    assert_eq!(joined(&pieces, 0), ("Well.".into(), vec!["tool_calls".into()]));
    let body = with(body, |body| body["parallel_tool_calls"] = json!(false));
    let one = answer(&router, CHAT, &body).await;
    assert_eq!(one["choices"][0]["message"]["tool_calls"].as_array().unwrap().len(), 1);
    let body = with(body, |body| body["tools"] = json!([tool("h")]));
    assert_eq!(content(&answer(&router, CHAT, &body).await), written);
}

/// A call that is cut at `max_tokens` has its name and the arguments so far, for any tool name.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_forced_call_has_the_arguments_so_far() {
    let router = server().await;
    for name in ["arguments", "get-x"] {
        let parameters =
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
        let tool =
            json!({"type": "function", "function": {"name": name, "parameters": parameters}});
        let body = question(json!({"tools": [tool], "tool_choice": "required", "max_tokens": 50,
            "logit_bias": {"0": -100}}));
        let cut = answer(&router, CHAT, &body).await;
        let call = &cut["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(call["name"], name, "{cut}");
        assert!(call["arguments"].as_str().unwrap().starts_with("{\"a\":"), "{cut}");
    }
}
