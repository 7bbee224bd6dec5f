//! Fields that are accepted, and fields and values that are refused.

use axum::body::Body;
use axum::http::{header, Method, Request, StatusCode};
use serde_json::{json, Value};
use tower::ServiceExt;

use super::{answer, content, question, send, server, CHAT, COMPLETIONS, SORTED};

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_common_clients_are_accepted() {
    let router = server().await;
    let parts = json!([{"type": "text", "text": "Sort 93 3 "}, {"type": "text", "text": "71 18."}]);
    for fields in [
        json!({"max_tokens": null, "stop": null, "n": null, "tools": null, "seed": null, "user": null,
            "logit_bias": null, "functions": null, "stream": null, "stream_options": null,
            "response_format": null, "top_p": null, "frequency_penalty": null, "metadata": null}),
        json!({"max_tokens": 40, "max_completion_tokens": 50}),
        json!({"messages": [{"role": "user", "content": parts}]}),
        json!({"messages": [{"role": "user", "content": "Sort 93 3 71 18.", "name": "me"}]}),
        json!({"user": "me", "metadata": {"a": "b"}, "store": false, "service_tier": "auto"}),
        json!({"tool_choice": "none", "parallel_tool_calls": true}),
    ] {
        assert_eq!(
            content(&answer(&router, CHAT, &question(fields.clone())).await),
            SORTED,
            "{fields}"
        );
    }
    let system = |role: &str| {
        let messages =
            json!([{"role": role, "content": "Hi."}, {"role": "user", "content": "Hi."}]);
        question(json!({"messages": messages}))
    };
    let developer = answer(&router, CHAT, &system("developer")).await;
    assert_eq!(content(&developer), content(&answer(&router, CHAT, &system("system")).await));
    let prompts = json!({"prompt": ["a dog", "a cat"], "temperature": 0});
    let both = answer(&router, COMPLETIONS, &prompts).await;
    for (index, prompt) in ["a dog", "a cat"].into_iter().enumerate() {
        let one = answer(&router, COMPLETIONS, &json!({"prompt": prompt, "temperature": 0})).await;
        assert_eq!(both["choices"][index]["text"], one["choices"][0]["text"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_fields_fail_with_their_name() {
    let router = server().await;
    let image = json!([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]);
    let twice = r#"{"messages": [{"role": "user", "content":
        [{"type": "text", "type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]}"#;
    let tool = json!({"type": "function", "function": {"name": "f"}});
    let chat = [
        (json!({"messages": [{"role": "user", "content": image}]}), "messages[0].content[0]"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": [{"role": "alien", "content": "x"}]}), "messages[0].role"),
        (json!({"functions": []}), "functions"),
        (json!({"function_call": "auto"}), "function_call"),
        (json!({"web_search_options": {}}), "web_search_options"),
        (json!({"audio": {"voice": "x"}}), "audio"),
        (json!({"modalities": ["audio"]}), "modalities"),
        (json!({"prediction": {}}), "prediction"),
        (json!({"store": true}), "store"),
        (json!({"truncate_sequence": true, "max_tokens": 5000}), "truncate_sequence"),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"top_p": 2}), "top_p"),
        (json!({"presence_penalty": 1e30}), "presence_penalty"),
        (json!({"top_logprobs": 21, "logprobs": true}), "top_logprobs"),
        (json!({"top_logprobs": 2}), "top_logprobs"),
        (json!({"n": 129}), "n"),
        (json!({"n": 128, "max_tokens": 1000}), "n"),
        (json!({"stop": vec!["x"; 17]}), "stop"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].function"),
        (
            json!({"tools": [tool], "tool_choice": {"type": "function", "function": {"name": "g"}}}),
            "tool_choice",
        ),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}), "tools"),
        (json!({"max_tokens": "5"}), "max_tokens"),
        (json!({"response_format": {"type": "json_object", "schema": {}}}), "response_format"),
        (json!({"grammar": {"type": "regex", "value": "a", "flags": "i"}}), "grammar.flags"),
        (json!({"tools": [tool], "tool_choice": "required", "stop": "a"}), "stop"),
        (
            json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]}),
            "tools",
        ),
        (json!({"logit_bias": {"a": 1}}), "logit_bias"),
        (json!({"logit_bias": {"01": 1}}), "logit_bias"),
        (json!({"response_format": ["json_object"]}), "response_format"),
        (json!({"tools": [["function", ["f", null, null, null]]]}), "tools[]"),
    ];
    for (fields, param) in chat {
        let (status, answer) = send(&router, CHAT, &question(fields.clone())).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{fields} got {answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["error"]["param"], param, "{fields} got {answer}");
    }
    for (fields, param) in [
        (json!({"prompt": "a", "suffix": "b"}), "suffix"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": "a", "n": 3, "best_of": 2}), "best_of"),
        (json!({"prompt": vec!["a"; 129]}), "prompt"),
    ] {
        let (status, answer) = send(&router, COMPLETIONS, &fields).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{fields} got {answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            answer["error"]["param"].as_str().unwrap_or_default(),
            param,
            "{fields} got {answer}"
        );
    }
    let request = Request::builder().method(Method::POST).uri(CHAT);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let response = router.clone().oneshot(request.body(Body::from(twice)).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_beyond_the_context_has_an_error_code() {
    let router = server().await;
    // The second has more bytes than any prompt, and is not tokenized.
    let lengths = [1000, 5000].map(|times| "a dog and 1 cat. ".repeat(times));
    for (long, stream) in lengths.iter().flat_map(|long| [(long, false), (long, true)]) {
        let messages = json!([{"role": "user", "content": long}]);
        let chat = question(json!({"messages": messages, "stream": stream}));
        let completion = json!({"prompt": long, "stream": stream});
        let tokens = json!({"prompt": vec![5; 2000], "stream": stream});
        for (path, body) in [(CHAT, chat), (COMPLETIONS, completion), (COMPLETIONS, tokens)] {
            let (status, answer) = send(&router, path, &body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(answer["error"]["code"], "context_length_exceeded");
            assert!(answer["error"]["message"].as_str().unwrap().contains("1024"), "{answer}");
        }
    }
    for beyond in [json!({"prompt": [5, 768]}), json!({"prompt": "a", "logit_bias": {"768": 1}})] {
        let (status, answer) = send(&router, COMPLETIONS, &beyond).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert!(answer.contains("768"), "{answer}");
    }
}
