//! Fields that OpenAI's clients rely on: texts, choices, log-probabilities, tool calls, errors.

use std::path::Path;

use axum::body::{to_bytes, Body};
use axum::http::{header, Method, Request, StatusCode};
use axum::Router;
use colm::serve::ServeOptions;
use colm_testing::engine::{chain_count, engine, options};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_string_is_cut_in_every_endpoint() {
    let router = server().await;
    for (fields, text, reason) in [
        (json!({"stop": ["93"]}), "3 18 71 ", "stop"),
        (json!({"stop": "18", "max_tokens": 4}), "3 ", "stop"),
        (json!({"stop": ["71"]}), "3 18 ", "stop"),
        (json!({"stop": ["8 7", "zz"]}), "3 1", "stop"),
        (json!({"stop": ["3"]}), "", "stop"),
        (json!({"stop": ["<|end|>"]}), SORTED, "stop"),
        (json!({"stop": null, "max_tokens": 4}), "3 18", "length"),
    ] {
        let body = question(fields.clone());
        let whole = answer(&router, CHAT, &body).await;
        assert_eq!(
            (content(&whole), &whole["choices"][0]["finish_reason"]),
            (text, &json!(reason))
        );
        let streamed = joined(&chunks(&router, CHAT, &body).await, 0);
        assert_eq!(streamed, (text.to_string(), vec![reason.to_string()]), "{fields}");
        let mut body = with(body, |body| {
            body["prompt"] = json!("<|user|>Sort 93 3 71 18.<|end|><|assistant|>");
            body.as_object_mut().unwrap().remove("messages");
        });
        let whole = answer(&router, COMPLETIONS, &body).await;
        assert_eq!(whole["choices"][0]["text"], text, "{fields}");
        assert_eq!(joined(&chunks(&router, COMPLETIONS, &body).await, 0).0, text, "{fields}");
        body["echo"] = json!(true);
        let echoed = answer(&router, COMPLETIONS, &body).await;
        let expected = format!("{}{text}", body["prompt"].as_str().unwrap());
        assert_eq!(echoed["choices"][0]["text"], expected, "{fields}");
        assert_eq!(joined(&chunks(&router, COMPLETIONS, &body).await, 0).0, expected, "{fields}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_choice_of_a_stream_ends_and_usage_counts_all_choices() {
    let router = server().await;
    let warm = json!({"n": 4, "temperature": 1.5, "seed": 3, "max_tokens": 12});
    let body = question(with(warm, |body| body["stream_options"] = json!({"include_usage": true})));
    let whole = answer(&router, CHAT, &body).await;
    let pieces = chunks(&router, CHAT, &body).await;
    for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
        assert_eq!(choice["index"], index);
        let (text, reasons) = joined(&pieces, index);
        assert_eq!(text, choice["message"]["content"], "{index}");
        assert_eq!(json!(reasons), json!([choice["finish_reason"]]));
        // Choice i of n is the only choice with seed + i.
        let alone = json!({"temperature": 1.5, "seed": 3 + index, "max_tokens": 12});
        assert_eq!(content(&answer(&router, CHAT, &question(alone)).await), text);
    }
    let usage = &pieces.last().unwrap()["usage"];
    assert_eq!(usage["completion_tokens"], whole["usage"]["completion_tokens"]);
    assert_eq!(usage["prompt_tokens"], whole["usage"]["prompt_tokens"]);
    let one = answer(&router, CHAT, &question(json!({"max_tokens": 12}))).await;
    assert_eq!(usage["prompt_tokens"], one["usage"]["prompt_tokens"]);
    assert!(usage["completion_tokens"].as_u64() > one["usage"]["completion_tokens"].as_u64());
    let without = chunks(&router, CHAT, &question(json!({}))).await;
    assert!(without.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn logprobs_agree_between_endpoints_and_streams() {
    let router = server().await;
    let chat =
        question(json!({"logprobs": true, "top_logprobs": 3, "temperature": 0.7, "seed": 1}));
    let whole = answer(&router, CHAT, &chat).await;
    let tokens = whole["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let streamed: Vec<Value> = chunks(&router, CHAT, &chat)
        .await
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(&streamed, tokens);
    let text: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(text, content(&whole));
    for token in tokens {
        assert!(token["logprob"].as_f64().unwrap() <= 0.);
        assert_eq!(token["token"].as_str().unwrap().as_bytes(), bytes(&token["bytes"]));
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert!(top.is_sorted_by(|a, b| a["logprob"].as_f64() >= b["logprob"].as_f64()));
    }
    let completion = json!({
        "prompt": "<|user|>Sort 93 3 71 18.<|end|><|assistant|>", "logprobs": 3, "temperature": 0.7,
        "seed": 1,
    });
    let whole = answer(&router, COMPLETIONS, &completion).await;
    let found = &whole["choices"][0]["logprobs"];
    for (index, token) in tokens.iter().enumerate() {
        assert_eq!(found["tokens"][index], token["token"]);
        assert_eq!(found["token_logprobs"][index], token["logprob"]);
        assert_eq!(found["text_offset"][index], index, "each token is one character here");
    }
    // The end token is included, so that the number of tokens is that of `usage`.
    assert_eq!(found["tokens"].as_array().unwrap().len(), tokens.len() + 1);
    assert_eq!(whole["usage"]["completion_tokens"], tokens.len() + 1);
    let pieces = chunks(&router, COMPLETIONS, &completion).await;
    let streamed: Vec<Value> = pieces
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["token_logprobs"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(json!(streamed), found["token_logprobs"]);
}

fn bytes(value: &Value) -> Vec<u8> {
    value.as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8).collect()
}

/// lm-evaluation-harness sends lists of tokens and reads their log-probabilities.
#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_scored_with_echo() {
    let engine = engine(&options(Path::new(&shipped("tiny-colm-air")))).await;
    let router = colm::serve::router(&engine, ServeOptions::default()).unwrap();
    let prompts =
        [engine.tokenize("Sort 93 3").await.unwrap(), engine.tokenize("What is é?").await.unwrap()];
    for max_tokens in [0, 1] {
        let body = json!({
            "prompt": prompts, "echo": true, "logprobs": 1, "max_tokens": max_tokens, "temperature": 0,
            "chains": 2,
        });
        let scored = answer(&router, COMPLETIONS, &body).await;
        for (index, prompt) in prompts.iter().enumerate() {
            let choice = &scored["choices"][index];
            let found = choice["logprobs"]["token_logprobs"].as_array().unwrap();
            assert_eq!(found.len(), prompt.len() + max_tokens);
            assert_eq!(found[0], Value::Null);
            let expected = engine.score(prompt.clone(), chain_count(2)).await.unwrap();
            assert_eq!(expected.len(), prompt.len() - 1);
            for (found, expected) in found[1..].iter().zip(expected) {
                assert!((found.as_f64().unwrap() - expected).abs() < 1e-9);
            }
            for list in ["tokens", "top_logprobs", "text_offset"] {
                assert_eq!(
                    choice["logprobs"][list].as_array().unwrap().len(),
                    found.len(),
                    "{list}"
                );
            }
        }
        let tokens = prompts.iter().map(Vec::len).sum::<usize>();
        assert_eq!(scored["usage"]["prompt_tokens"], tokens);
        assert_eq!(scored["usage"]["completion_tokens"], 2 * max_tokens);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn best_of_returns_the_answers_with_the_highest_mean_logprob() {
    let router = server().await;
    let body =
        json!({"prompt": "a dog", "temperature": 1.5, "seed": 9, "max_tokens": 8, "logprobs": 0});
    let all = answer(&router, COMPLETIONS, &with(body.clone(), |body| body["n"] = json!(6))).await;
    let mean = |choice: &Value| {
        let all = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        all.iter().map(|one| one.as_f64().unwrap()).sum::<f64>() / all.len() as f64
    };
    let mut means: Vec<f64> = all["choices"].as_array().unwrap().iter().map(mean).collect();
    means.sort_by(|a, b| b.total_cmp(a));
    let body = with(body, |body| (body["n"], body["best_of"]) = (json!(2), json!(6)));
    let best = answer(&router, COMPLETIONS, &body).await;
    let found: Vec<f64> = best["choices"].as_array().unwrap().iter().map(mean).collect();
    assert_eq!(found.len(), 2);
    assert!(found.iter().zip(&means).all(|(a, b)| (a - b).abs() < 0.2), "{found:?} of {means:?}");
}

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
        (json!({"prompt": []}), Value::Null.as_str().unwrap_or_default()),
        (json!({"prompt": "a", "n": 3, "best_of": 2}), "best_of"),
        (json!({"prompt": vec!["a"; 129]}), "n"),
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
    let long = "a dog and 1 cat. ".repeat(1000);
    for stream in [false, true] {
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

#[tokio::test(flavor = "multi_thread")]
async fn offsets_count_the_characters_of_the_text() {
    let router = server().await;
    for (prompt, expected) in [
        (json!("<|user|>Hi<|end|><|assistant|>"), json!([0, 8, 9, 10, 17])),
        (json!([131, 68, 68]), json!([0, 1, 2])),
    ] {
        let body = json!({"prompt": prompt, "echo": true, "logprobs": 0, "max_tokens": 0});
        let echoed = answer(&router, COMPLETIONS, &body).await;
        assert_eq!(echoed["choices"][0]["logprobs"]["text_offset"], expected, "{prompt}");
    }
}

/// An answer cannot contain the text of special tokens; such a grammar fails before the answer starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_grammar_with_the_text_of_a_special_token_fails() {
    let router = server().await;
    for grammar in [
        json!({"type": "regex", "value": "[a-z]{40}<\\|end\\|>x"}),
        json!({"type": "lark", "value": "start: /[a-z]{30}/ \"<|end|>\""}),
        json!({"type": "json_schema", "value": {"enum": ["a<|user|>b"]}}),
    ] {
        let body = question(json!({"grammar": grammar, "max_tokens": 80, "stream": true}));
        let (status, answer) = send(&router, CHAT, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{grammar} got {answer}");
        assert!(answer.contains("special token"), "{answer}");
    }
    let twice =
        r#"{"messages": [{"role": "user", "content": "x"}], "logit_bias": {"0": -100, "0": 100}}"#;
    let request = Request::builder().method(Method::POST).uri(CHAT);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let response = router.clone().oneshot(request.body(Body::from(twice)).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

/// Leading spaces of an answer are kept, and so is the character that tokenizers use for spaces.
#[tokio::test(flavor = "multi_thread")]
async fn white_space_is_kept() {
    let router = server().await;
    for written in ["  \n\t3 ▁ é", " "] {
        let grammar = json!({"type": "regex", "value": regex::escape(written)});
        let chat = question(json!({"grammar": grammar, "max_tokens": 60}));
        assert_eq!(content(&answer(&router, CHAT, &chat).await), written);
        assert_eq!(joined(&chunks(&router, CHAT, &chat).await, 0).0, written);
        let body = json!({"prompt": "a", "grammar": grammar, "temperature": 0, "max_tokens": 60});
        assert_eq!(answer(&router, COMPLETIONS, &body).await["choices"][0]["text"], written);
        assert_eq!(joined(&chunks(&router, COMPLETIONS, &body).await, 0).0, written);
    }
}

/// A prompt with several choices is computed once.
#[tokio::test(flavor = "multi_thread")]
async fn several_choices_share_their_prompt() {
    let engine = engine(&options(Path::new(&shipped("tiny-colm-air")))).await;
    let router = colm::serve::router(&engine, ServeOptions::default()).unwrap();
    let prompt: Vec<u32> = (0..320).map(|at| 5 + at % 600).collect();
    let body = json!({"prompt": prompt, "n": 8, "temperature": 1.2, "seed": 1, "max_tokens": 4});
    let together = answer(&router, COMPLETIONS, &body).await;
    let computed = engine.counts().prompt;
    assert!(computed < 320 + 8 * 64, "{computed} tokens were computed");
    for index in 0..8 {
        let alone =
            with(body.clone(), |body| (body["n"], body["seed"]) = (json!(1), json!(1 + index)));
        let alone = answer(&router, COMPLETIONS, &alone).await;
        assert_eq!(alone["choices"][0]["text"], together["choices"][index]["text"]);
    }
}
