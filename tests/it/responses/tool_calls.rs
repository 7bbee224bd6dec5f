//! Answers that are tool calls, and items sent back as input.

use colm_testing::random_model::with;
use serde_json::{json, Value};

use super::{joined, text, tools, without_ids, Server, ANSWER, CHAT, LOGPROBS, QUESTION};

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
