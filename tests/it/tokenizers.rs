//! Tokenizers that would panic, or expand text excessively, fail with an error that names file and field.

use std::path::Path;

use colm::{Error, Request};
use colm_testing::engine::{engine, options};
use serde_json::{json, Map, Value};

use crate::folders::model_folder::{Folder, ANSWER, TEMPLATE, TOKENIZER, TOKENIZER_CONFIG};

fn tokenizer(change: impl FnOnce(&mut Value)) -> Folder {
    Folder::new().with(TOKENIZER, change)
}

#[tokio::test(flavor = "multi_thread")]
async fn tokenizers_that_expand_text_excessively_fail() {
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

/// Grammars do not support such tokens; text does.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_2000_bytes_loads() {
    let folder = tokenizer(|json| json["model"]["vocab"]["a".repeat(2000)] = json!(768));
    assert_eq!(folder.answer().await, ANSWER);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_every_text_needs_must_exist() {
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
async fn a_panic_of_the_tokenizer_fails_its_request_only() {
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

/// Speech models have 65,536 added tokens and more.
#[tokio::test(flavor = "multi_thread")]
async fn many_added_tokens_load() {
    const COUNT: usize = 20_000;
    let token = |id: usize| json!({"content": format!("<|{id}|>"), "special": true});
    let folder = Folder::new().with(TOKENIZER_CONFIG, |json| {
        let tokens = (768..768 + COUNT).map(|id| (id.to_string(), token(id)));
        json["added_tokens_decoder"] = Value::Object(Map::from_iter(tokens));
    });
    assert_eq!(folder.answer().await, ANSWER);
}

#[tokio::test(flavor = "multi_thread")]
async fn unused_templates_are_not_checked() {
    let folder = Folder::new().with(TOKENIZER_CONFIG, |json| {
        json["chat_template"] = json!({"default": TEMPLATE, "rag": "{{"});
    });
    assert_eq!(folder.answer().await, ANSWER);
}

#[tokio::test(flavor = "multi_thread")]
async fn special_tokens_that_the_tokenizer_splits_are_text() {
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
