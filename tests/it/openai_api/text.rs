//! The text of an answer: stop strings, white space, and the text of special tokens.

use axum::body::Body;
use axum::http::{header, Method, Request, StatusCode};
use colm_testing::random_model::with;
use serde_json::json;
use tower::ServiceExt;

use super::{answer, chunks, content, joined, question, send, server, CHAT, COMPLETIONS, SORTED};

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

/// A grammar that takes too much at a later token fails as one that does not compile.
#[tokio::test(flavor = "multi_thread")]
async fn a_grammar_that_fails_during_the_answer_is_named() {
    let router = server().await;
    let grammar = json!({"type": "regex", "value": "((a{0,50}b{0,50}){0,50}c{0,50}){0,10}"});
    // The end token would end the answer before.
    let fields = json!({"grammar": grammar, "max_tokens": 300, "logit_bias": {"0": -100}});
    let completion = with(fields.clone(), |body| body["prompt"] = json!("a"));
    let response = json!({"grammar": grammar, "input": "a", "max_output_tokens": 300, "logit_bias": {"0": -100}});
    for (path, body) in
        [(CHAT, question(fields)), (COMPLETIONS, completion), ("/v1/responses", response)]
    {
        for stream in [false, true] {
            let body = with(body.clone(), |body| body["stream"] = json!(stream));
            let (status, answer) = send(&router, path, &body).await;
            let expected = if stream { StatusCode::OK } else { StatusCode::BAD_REQUEST };
            assert_eq!(status, expected, "{path}: {answer}");
            let has = |text: &str| assert!(answer.contains(text), "{path}: {answer}");
            has("\"param\":\"grammar\"");
            has("\"code\":\"invalid_grammar\"");
            has("too many expressions");
        }
    }
}
