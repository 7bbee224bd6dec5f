//! The engine against the trainer's models: logits of the dense masked model, and answers of the shipped model.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use colm::{Message, Request};
use colm_testing::comparison::largest_magnitude;
use colm_testing::engine::{engine, options};
use colm_testing::folders;
use colm_testing::random_model::{self, token_ids, with};
use colm_train::chain_model::ChainModel;
use colm_train::evaluate::{evaluate, held_out};
use colm_train::save;
use colm_train::tokenizer::ChatTokenizer;
use colm_train::weights::Weights;
use futures::future::join_all;
use serde_json::json;

fn shipped() -> PathBuf {
    folders::shipped("tiny-colm-air").into()
}

async fn assert_equals_the_dense_model(folder: &Path, tokens: Vec<u32>, bound: f32) {
    let reference = save::load(folder).unwrap();
    let input = Tensor::new(tokens.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let hidden = reference.forward(&input).unwrap();
    let options = options(folder).prefix_cache(false);
    let engine = engine(&options).await;
    for k in engine.chain_counts() {
        let expected = reference.logits_at(&hidden, k.get()).unwrap().squeeze(0).unwrap();
        let found = engine.logits(tokens.clone(), k).await.unwrap();
        let difference = (expected - found).unwrap().flatten_all().unwrap();
        let difference = largest_magnitude(difference.to_vec1::<f32>().unwrap());
        assert!(difference <= bound, "at {k} chains: logits differ by {difference}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_models_equal_the_dense_model() {
    let tokens = token_ids(60);
    let unequal = |config| {
        with(config, |json| {
            json["chains"] = json!([2, 1, 1]);
            json["rope_theta"] = json!(500.0);
        })
    };
    for config in [random_model::air(), random_model::colm(), unequal(random_model::air())] {
        let folder = random_model::folder(&config);
        assert_equals_the_dense_model(&folder.path().join("model"), tokens.clone(), 1e-4).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_model_equals_the_dense_model() {
    let engine = engine(&options(&shipped())).await;
    let tokens = engine.tokenize("<|user|>\nSort 93 3 71 18.<|end|>\n<|assistant|>\n").await;
    assert_equals_the_dense_model(&shipped(), tokens.unwrap(), 2e-3).await;
}

/// Held-out questions through the chat template and the engine's greedy decoding: the share of exact answers is that of
/// the trainer's evaluation. (`examples/train/tests/it/shipped.rs` compares the evaluation with the figures in the
/// README.)
#[tokio::test(flavor = "multi_thread")]
async fn the_engine_answers_as_well_as_the_trainer_evaluates() {
    let engine = engine(&options(&shipped()).kv_cache_mib(64)).await;
    let questions = held_out(11, 40);
    assert!(questions.len() > 700, "{}", questions.len());
    let (weights, _) = Weights::read(&shipped()).unwrap();
    let reference = ChainModel::new(&weights.config, &weights.blocks).unwrap();
    let chat = ChatTokenizer::load(&shipped()).unwrap();
    let evaluation = evaluate(&reference, &chat, &questions, 2).unwrap();
    let expected = |k: usize| evaluation.tasks.values().map(|score| score.correct[k - 1]).sum();
    for k in engine.chain_counts() {
        let answers = join_all(questions.iter().map(|question| {
            let messages = vec![Message::user(&question.prompt)];
            engine.answer(Request::chat(messages).chains(k).max_tokens(64))
        }));
        let answers = answers.await.into_iter().zip(&questions);
        let right =
            answers.filter(|(answer, question)| answer.as_ref().unwrap().text == question.answer);
        let (right, expected): (usize, usize) = (right.count(), expected(k.get()));
        // Rounding may change the choice between two tokens of nearly equal logits.
        assert!(right.abs_diff(expected) <= 2, "k = {k}: {right} right answers, not {expected}");
    }
}
