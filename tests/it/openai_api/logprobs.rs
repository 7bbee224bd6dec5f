//! Log-probabilities, of answers and of prompts.

use std::path::Path;

use colm::serve::ServeOptions;
use colm_testing::engine::{chain_count, engine, options};
use colm_testing::folders::shipped;
use serde_json::{json, Value};

use super::{answer, chunks, content, question, server, CHAT, COMPLETIONS};

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

/// The first answer alone computes the log-probabilities of the prompt, and the second one the blocks of the cache.
#[tokio::test(flavor = "multi_thread")]
async fn answers_to_one_prompt_share_its_log_probabilities() {
    let engine = engine(&options(Path::new(&shipped("tiny-colm-air")))).await;
    let router = colm::serve::router(&engine, ServeOptions::default()).unwrap();
    for prompt in [10, 500].map(|tokens| vec![7; tokens]) {
        let body = |n: usize, seed: usize| {
            json!({
                "prompt": prompt, "n": n, "seed": seed, "echo": true, "logprobs": 0,
                "max_tokens": 2, "temperature": 1,
            })
        };
        let before = engine.counts();
        let together = answer(&router, COMPLETIONS, &body(4, 5)).await;
        let computed = engine.counts().since(before).prompt;
        // The third and fourth answers compute what is in no full block.
        assert!(computed <= 2 * prompt.len() + 2 * prompt.len().min(32), "{computed}");
        for index in 0..4 {
            let alone = answer(&router, COMPLETIONS, &body(1, 5 + index)).await;
            let [found, expected] = [&together["choices"][index], &alone["choices"][0]]
                .map(|choice| &choice["logprobs"]);
            assert!(found == expected, "{index}: {found} {expected}");
            assert!(found["tokens"].as_array().unwrap().len() > prompt.len());
        }
    }
}
