//! Answers that are texts.

use serde_json::{json, Value};

use super::{joined, text, tools, without_ids, Server, ANSWER, LOGPROBS, QUESTION};

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
