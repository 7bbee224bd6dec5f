//! Tokenizers that would panic, or make much of little, are refused by file and field.

use std::path::Path;

use colm::{Error, Request};
use colm_testing::engine::{engine, options};
use serde_json::{json, Map, Value};

use crate::folders::{Folder, ANSWER, TEMPLATE, TOKENIZER, TOKENIZER_CONFIG};

fn tokenizer(change: impl FnOnce(&mut Value)) -> Folder {
    Folder::new().with(TOKENIZER, change)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_much_of_little_is_refused() {
    let replace =
        json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(100)});
    let many = vec![replace; 6];
    let normalizer = json!({"type": "Sequence", "normalizers": many});
    let folder = tokenizer(|json| json["normalizer"] = normalizer);
    folder.refused(&[TOKENIZER, "normalizer", "1000000000000 times"]).await;
    let decoder = json!({"type": "Sequence", "decoders": many});
    let folder = tokenizer(|json| json["decoder"] = decoder);
    folder.refused(&[TOKENIZER, "decoder"]).await;
    let folder = tokenizer(|json| json["model"]["vocab"]["a".repeat(1_000_000)] = json!(768));
    folder.refused(&[TOKENIZER, "model.vocab", "1000000 bytes"]).await;
    let folder = Folder::new().with("config.json", |json| json["vocab_size"] = json!(2147483647));
    folder.refused(&["lm_head", "[768, 64]", "2147483647"]).await;
}

/// Grammars cannot hold such tokens; texts can.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_2000_bytes_is_taken() {
    let folder = tokenizer(|json| json["model"]["vocab"]["a".repeat(2000)] = json!(768));
    assert_eq!(folder.answer().await, ANSWER);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_every_text_needs_must_be_there() {
    let template = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<nope>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {},
    });
    let folder = tokenizer(|json| json["post_processor"] = template);
    folder.refused(&[TOKENIZER, "post_processor"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_the_tokenizer_panics_on_is_an_error_of_its_request() {
    let split = json!({
        "type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": false,
    });
    let folder = tokenizer(|json| json["pre_tokenizer"] = split);
    let engine = engine(&options(&folder.path(""))).await;
    let text = |text: String| Request::text(text).max_tokens(2);
    let error = engine.answer(text(format!("{}c", "a".repeat(2000)))).await.unwrap_err();
    assert!(matches!(error, Error::Tokenizer(_)), "{error:?}");
    assert!(!error.to_string().contains("panicked"), "{error}");
    engine.answer(text("a".into())).await.unwrap();
}

/// Speech models add 65,536 tokens and more.
#[tokio::test(flavor = "multi_thread")]
async fn many_added_tokens_are_taken() {
    const COUNT: usize = 20_000;
    let token = |id: usize| json!({"content": format!("<|{id}|>"), "special": true});
    let folder = Folder::new().with(TOKENIZER_CONFIG, |json| {
        let tokens = (768..768 + COUNT).map(|id| (id.to_string(), token(id)));
        json["added_tokens_decoder"] = Value::Object(Map::from_iter(tokens));
    });
    assert_eq!(folder.answer().await, ANSWER);
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_that_cannot_be_chosen_are_not_checked() {
    let folder = Folder::new().with(TOKENIZER_CONFIG, |json| {
        json["chat_template"] = json!({"default": TEMPLATE, "rag": "{{"});
    });
    assert_eq!(folder.answer().await, ANSWER);
}

#[tokio::test(flavor = "multi_thread")]
async fn special_tokens_in_a_text_are_text_if_the_tokenizer_splits_them() {
    let tokens = |folder: Folder| async move {
        let path = folder.path("");
        let engine = engine(&options(Path::new(&path))).await;
        let request = Request::text("<|end|>").max_tokens(1);
        engine.answer(request).await.unwrap().usage.prompt_tokens
    };
    let split = |value: bool| {
        Folder::new().with(TOKENIZER_CONFIG, |json| json["split_special_tokens"] = value.into())
    };
    assert_eq!(tokens(split(false)).await, 1);
    assert_eq!(tokens(split(true)).await, 5);
}
