//! The engine against the trainer's model: plain, dense, masked, without a cache. And the shipped model
//! against what the README says of it.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use colm::{Message, Request};
use colm_testing::engine::{engine, options};
use colm_testing::random_model::{self, token_ids, with};
use colm_train::evaluate::held_out;
use colm_train::save;
use futures::future::join_all;
use serde_json::json;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-colm-air")
}

async fn equals_the_trainers_model(folder: &Path, tokens: Vec<u32>, bound: f32) {
    let reference = save::load(folder).unwrap();
    let input = Tensor::new(tokens.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let hidden = reference.forward(&input).unwrap();
    let options = options(folder).prefix_cache(false);
    let engine = engine(&options).await;
    for k in engine.chain_counts() {
        let expected = reference.logits_at(&hidden, k.get()).unwrap().squeeze(0).unwrap();
        let found = engine.logits(tokens.clone(), k).await.unwrap();
        let difference = (expected - found).unwrap().abs().unwrap().flatten_all().unwrap();
        let difference = difference.max(0).unwrap().to_scalar::<f32>().unwrap();
        assert!(difference <= bound, "at {k} chains: logits differ by {difference}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_models_equal_the_trainers() {
    let tokens = token_ids(60);
    let unequal = |config| {
        with(config, |json| {
            json["chains"] = json!([2, 1, 1]);
            json["rope_theta"] = json!(500.0);
        })
    };
    for config in [random_model::air(), random_model::colm(), unequal(random_model::air())] {
        let folder = random_model::folder(&config);
        equals_the_trainers_model(&folder.path().join("model"), tokens.clone(), 1e-4).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_model_equals_the_trainers() {
    let engine = engine(&options(&shipped())).await;
    let tokens = engine.tokenize("<|user|>\nSort 93 3 71 18.<|end|>\n<|assistant|>\n").await;
    equals_the_trainers_model(&shipped(), tokens.unwrap(), 2e-3).await;
}

/// Held-out questions, through the chat template and the engine's own decoding.
#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_model_is_as_good_as_the_readme_says() {
    let engine = engine(&options(&shipped()).kv_cache_mib(64)).await;
    let questions = held_out(11, 40);
    let mut shares = Vec::new();
    for k in engine.chain_counts() {
        let answers = join_all(questions.iter().map(|question| {
            let messages = vec![Message::user(&question.prompt)];
            engine.answer(Request::chat(messages).chains(k).max_tokens(64))
        }));
        let answers = answers.await.into_iter().zip(&questions);
        let right =
            answers.filter(|(answer, question)| answer.as_ref().unwrap().text == question.answer);
        shares.push(right.count() as f64 / questions.len() as f64);
    }
    println!("exact answers to {} held-out questions: {shares:.3?}", questions.len());
    assert!(shares[3] >= 0.8, "{shares:?}");
    assert!(shares[3] - shares[0] >= 0.15, "{shares:?}");
}
