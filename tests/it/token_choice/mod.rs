//! The choice of tokens: the passes over the vocabulary, the penalties, and the draws of the engine.

mod pure;
mod reference;

use std::path::Path;
use std::sync::{Arc, Mutex};

use candle_core::{Device, Tensor};
use colm::{Dry, Engine, FinishReason, Grammar, Request, Sampling};
use colm_testing::engine::{engine, options};
use colm_testing::folders::shipped;
use futures::future::join_all;
use serde_json::json;

use crate::folders::model_folder::Folder;

const VOCAB_SIZE: usize = 768;

async fn started() -> Engine {
    engine(&options(Path::new(&shipped("tiny-colm-air"))).max_seqs(40)).await
}

/// The tokens of an answer.
async fn tokens(engine: &Engine, request: Request) -> Vec<u32> {
    let answer = engine.answer(request).await.unwrap();
    answer.tokens.iter().map(|token| token.id).collect()
}

/// The logits of each token, whatever the model computes. Token 0 would end the answer.
fn fixed_logits() -> Vec<f32> {
    let logits = (0..VOCAB_SIZE).map(|token| match token {
        0 => f32::NEG_INFINITY,
        _ => (token * 7919 % 1000) as f32 / 1000. * 6.,
    });
    logits.collect()
}

/// A request whose tokens are all drawn from `fixed_logits`.
fn fixed(sampling: Sampling, seed: u64, tokens: usize) -> Request {
    let fixed = |_: &Tensor, _: &[u32]| Tensor::new(fixed_logits(), &Device::Cpu);
    let request = Request::tokens([5, 6]).sampling(sampling).seed(seed).max_tokens(tokens);
    request.logits_processor(fixed)
}

fn settings() -> Vec<Sampling> {
    let with = |change: fn(&mut Sampling)| {
        let mut sampling = Sampling::default();
        sampling.temperature = 1.1;
        change(&mut sampling);
        sampling
    };
    vec![
        with(|_| ()),
        with(|sampling| sampling.top_k = Some(40)),
        with(|sampling| sampling.top_p = Some(0.8)),
        with(|sampling| (sampling.top_k, sampling.top_p) = (Some(300), Some(0.3))),
        with(|sampling| sampling.min_p = Some(0.1)),
        with(|sampling| (sampling.top_p, sampling.min_p) = (Some(0.9), Some(0.05))),
        with(|sampling| sampling.frequency_penalty = Some(0.7)),
        with(|sampling| sampling.dry = Some(Dry::new(0.8))),
        with(|sampling| sampling.temperature = 0.),
    ]
}

/// A seed gives the same tokens alone and with 32 requests at once, whatever the settings are.
#[tokio::test(flavor = "multi_thread")]
async fn seeds_give_the_same_tokens_alone_and_among_32() {
    let engine = started().await;
    let settings = settings();
    let request = |index: usize| {
        let sampling = settings[index % settings.len()].clone();
        if index % 5 == 4 {
            // Many first choices are not allowed.
            let request = Request::tokens([1, 2, 3]).sampling(sampling).seed(index as u64);
            return request.grammar(Grammar::Regex("[a-f]{3,20}".into())).max_tokens(20);
        }
        match index % 2 {
            0 => fixed(sampling, index as u64, 20),
            _ => Request::tokens([7, 8, 9]).sampling(sampling).seed(index as u64).max_tokens(20),
        }
    };
    let mut alone = Vec::new();
    for index in 0..32 {
        alone.push(tokens(&engine, request(index)).await);
    }
    for _ in 0..3 {
        let together = join_all((0..32).map(|index| tokens(&engine, request(index)))).await;
        assert_eq!(together, alone);
    }
}

/// How often tokens are drawn, against their probabilities by a full sort.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_drawn_as_often_as_they_are_likely() {
    let engine = started().await;
    let logits = fixed_logits();
    for sampling in settings().into_iter().take(6) {
        let requests = (0..16).map(|seed| tokens(&engine, fixed(sampling.clone(), seed, 500)));
        let drawn: Vec<u32> = join_all(requests).await.concat();
        assert_eq!(drawn.len(), 8000);
        let expected = probabilities(&logits, &sampling);
        // Tokens in 16 groups by their ids, so that each group is drawn often.
        let mut statistic = 0.;
        for group in 0..16 {
            let of_group = |token: u32| token as usize % 16 == group;
            let count = drawn.iter().filter(|&&token| of_group(token)).count() as f64;
            let tokens = (0..VOCAB_SIZE as u32).filter(|&token| of_group(token));
            let mean = 8000. * tokens.map(|token| expected[token as usize]).sum::<f64>();
            assert!(mean > 5. || count < 40., "{sampling:?}: group {group}: {count} of {mean}");
            statistic += if mean > 5. { (count - mean).powi(2) / mean } else { 0. };
        }
        // chi-squared with 15 degrees of freedom exceeds this with a probability of 1e-7. The seeds are fixed.
        assert!(statistic < 62., "{sampling:?}: {statistic}");
        assert!(drawn.iter().all(|&token| expected[token as usize] > 0.), "{sampling:?}");
    }
}

fn probabilities(logits: &[f32], sampling: &Sampling) -> Vec<f64> {
    let weigh = |&logit: &f32| (f64::from(logit) / sampling.temperature).exp();
    let mut weights: Vec<f64> = logits.iter().map(weigh).collect();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let total: f64 = weights.iter().sum();
    let floor = sampling.min_p.unwrap_or(0.) * weights[order[0]];
    let mut before = 0.;
    for (rank, &token) in order.iter().enumerate() {
        let weight = weights[token];
        let is_kept = rank < sampling.top_k.unwrap_or(usize::MAX)
            && before < sampling.top_p.unwrap_or(2.) * total
            && weight > floor;
        weights[token] = if is_kept { weight } else { 0. };
        before += weight;
    }
    let kept: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / kept).collect()
}

/// What the logits processors get: the logits of the model after the penalties, which are computed here for the whole
/// vocabulary. The values are equal to the bit.
#[tokio::test(flavor = "multi_thread")]
async fn penalties_change_the_logits_of_tokens_that_have_occurred() {
    let engine = started().await;
    let prompt = vec![5u32, 9, 9, 300, 9, 41, 5, 9];
    let mut sampling = Sampling::default();
    for (frequency, presence, repetition) in [
        (Some(0.3), None, None),
        (None, Some(-0.4), None),
        (None, None, Some(1.3)),
        (Some(0.1), Some(0.2), Some(1.7)),
        (Some(0.), Some(0.), Some(1.)),
    ] {
        sampling.frequency_penalty = frequency;
        sampling.presence_penalty = presence;
        sampling.repetition_penalty = repetition;
        for (context, penalized) in steps(&engine, &prompt, &sampling).await {
            let plain = raw_logits(&engine, &context).await;
            let occurrences = |token: u32| context.iter().filter(|&&at| at == token).count() as f32;
            for (token, (&plain, &penalized)) in plain.iter().zip(&penalized).enumerate() {
                let count = occurrences(token as u32);
                let present = if count > 0. { 1. } else { 0. };
                let mut expected =
                    plain - count * frequency.unwrap_or(0.) - present * presence.unwrap_or(0.);
                let repetition = repetition.unwrap_or(1.);
                if repetition != 1. && count > 0. {
                    let positive = expected > 0.;
                    expected = if positive { expected / repetition } else { expected * repetition };
                }
                assert_eq!(penalized, expected, "{sampling:?}: token {token}");
            }
        }
    }
}

/// A token that would continue a repetition is penalized; the others are not.
#[tokio::test(flavor = "multi_thread")]
async fn dry_penalizes_the_token_that_continues_a_repetition() {
    let engine = started().await;
    let prompt = vec![11u32, 12, 13, 14, 15, 40, 11, 12, 13, 14];
    let mut sampling = Sampling::default();
    let mut dry = Dry::new(0.8);
    (dry.base, dry.allowed_length, dry.sequence_breakers) = (1.5, 2, Some(Vec::new()));
    sampling.dry = Some(dry);
    let (context, penalized) = steps(&engine, &prompt, &sampling).await.remove(0);
    let plain = raw_logits(&engine, &context).await;
    for token in 0..VOCAB_SIZE {
        // Four tokens before it have occurred before the first 15 too.
        let penalty = if token == 15 { 0.8f32 * 1.5f32.powf(2.) } else { 0. };
        assert_eq!(penalized[token], plain[token] - penalty, "token {token}");
    }
}

/// The tokenizer ends texts with a special token, which is no part of the breaker.
#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_breaker_is_its_own_token() {
    let folder = Folder::new().with("tokenizer.json", |json| {
        json["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "<|system|>", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                "<|system|>": {"id": "<|system|>", "ids": [3], "tokens": ["<|system|>"]},
            },
        });
    });
    let engine = engine(&options(folder.0.path())).await;
    let colon = engine.answer(Request::text(":").max_tokens(1)).await.unwrap();
    assert_eq!(colon.usage.prompt_tokens, 2);
    let colon = engine.tokenize(":").await.unwrap()[0];
    let mut prompt = vec![11, colon, 13, 14, 15, 40, 11, colon, 13, 14];
    let penalty = async |prompt: &[u32], breakers: &[&str]| {
        let mut sampling = Sampling::default();
        let mut dry = Dry::new(1.);
        (dry.base, dry.allowed_length) = (1., 3);
        dry.sequence_breakers = Some(breakers.iter().map(|text| text.to_string()).collect());
        sampling.dry = Some(dry);
        let (context, penalized) = steps(&engine, prompt, &sampling).await.remove(0);
        raw_logits(&engine, &context).await[15] - penalized[15]
    };
    // Two tokens are repeated after the breaker, four without it.
    assert_eq!(penalty(&prompt, &[]).await, 1.);
    assert_eq!(penalty(&prompt, &[":"]).await, 0.);
    prompt.retain(|&token| token != colon);
    assert_eq!(penalty(&prompt, &[":"]).await, 1.);
}

/// The host compares single tokens, and no more than 50.
#[tokio::test(flavor = "multi_thread")]
async fn dry_parameters_that_would_be_ignored_are_refused() {
    let engine = started().await;
    let answer = async |dry: Dry| {
        let mut sampling = Sampling::default();
        sampling.dry = Some(dry);
        engine.answer(Request::tokens([5, 6]).sampling(sampling).max_tokens(1)).await
    };
    answer(Dry::new(1.)).await.unwrap();
    let mut long = Dry::new(1.);
    long.allowed_length = Dry::MAX_ALLOWED_LENGTH + 1;
    let error = answer(long).await.unwrap_err().to_string();
    assert_eq!(error, "`dry_allowed_length`: 51: expected at most 50");
    let mut two = Dry::new(1.);
    two.sequence_breakers = Some(vec!["\n".into(), "; and so on".into()]);
    let error = answer(two).await.unwrap_err().to_string();
    assert!(error.starts_with("`dry_sequence_breakers`: \"; and so on\" is not"), "{error}");
}

/// Not because of the limit that it has also reached.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_completes_its_grammar_ends_by_itself() {
    let engine = started().await;
    let request = || Request::tokens([5, 6]).grammar(Grammar::Regex("ab; and so on".into()));
    let whole = engine.answer(request()).await.unwrap();
    let tokens = whole.usage.completion_tokens;
    for (max_tokens, reason) in [(tokens, FinishReason::Stop), (tokens - 1, FinishReason::Length)] {
        let answer = engine.answer(request().max_tokens(max_tokens)).await.unwrap();
        assert_eq!(answer.finish_reason, reason, "{max_tokens} of {tokens} tokens");
    }
}

/// A grammar may allow no other token than the one with the largest penalty.
#[tokio::test(flavor = "multi_thread")]
async fn penalties_are_finite() {
    let engine = started().await;
    let mut sampling = Sampling::default();
    let mut dry = Dry::new(100.);
    (dry.base, dry.allowed_length, dry.sequence_breakers) = (10., 0, Some(Vec::new()));
    (sampling.dry, sampling.repetition_penalty) = (Some(dry), Some(10.));
    let (_, penalized) = steps(&engine, &[7; 60], &sampling).await.remove(0);
    assert!(penalized[7] < -1e30, "{}", penalized[7]);
    assert!(penalized.iter().all(|logit| logit.is_finite()));
}

/// The contexts of four steps, with the logits that logits processors get.
async fn steps(engine: &Engine, prompt: &[u32], sampling: &Sampling) -> Vec<(Vec<u32>, Vec<f32>)> {
    let seen = Arc::<Mutex<Vec<_>>>::default();
    let in_processor = seen.clone();
    let watch = move |logits: &Tensor, context: &[u32]| {
        let row = (context.to_vec(), logits.to_vec1::<f32>()?);
        in_processor.lock().unwrap().push(row);
        Ok(logits.clone())
    };
    let request = Request::tokens(prompt.to_vec()).sampling(sampling.clone()).max_tokens(4);
    engine.answer(request.logits_processor(watch)).await.unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(!seen.is_empty());
    seen
}

/// The logits of the model after `context`.
async fn raw_logits(engine: &Engine, context: &[u32]) -> Vec<f32> {
    let logits = engine.logits(context.to_vec(), engine.loaded_chains()).await.unwrap();
    logits.get(context.len() - 1).unwrap().to_vec1().unwrap()
}
