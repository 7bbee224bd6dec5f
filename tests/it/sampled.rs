//! Seeds, log-probabilities and stop strings.

use std::path::Path;

use colm::{Engine, FinishReason, Message, Request};
use colm_testing::engine::{chain_count, engine, options};
use colm_testing::folders::shipped;
use futures::future::join_all;
use futures::TryStreamExt;

async fn started(model: &str, drafts: usize) -> Engine {
    engine(&options(Path::new(&shipped(model))).max_drafts(drafts)).await
}

fn chat(question: &str) -> Request {
    Request::chat(vec![Message::user(question)]).max_tokens(40)
}

fn warm(seed: Option<u64>) -> Request {
    let mut request = Request::tokens([7, 8, 9]).max_tokens(40).temperature(1.5);
    request.seed = seed;
    request
}

/// The text of an answer.
async fn text(engine: &Engine, request: Request) -> String {
    engine.answer(request).await.unwrap().text
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_seeds_give_equal_answers_alone_in_a_batch_and_with_drafts() {
    for model in ["tiny-colm-air", "tiny-colm"] {
        let (plain, drafting) = (started(model, 0).await, started(model, 4).await);
        let mut alone = Vec::new();
        for seed in 0..12 {
            alone.push(text(&plain, warm(Some(seed))).await);
        }
        let different: std::collections::HashSet<&String> = alone.iter().collect();
        assert!(different.len() > 6, "{alone:?}");
        for engine in [&plain, &drafting] {
            let together = join_all((0..12).map(|seed| text(engine, warm(Some(seed))))).await;
            assert_eq!(together, alone, "{model}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_seed_differ_even_after_a_restart() {
    let mut answers = Vec::new();
    for _ in 0..2 {
        let engine = started("tiny-colm-air", 0).await;
        for _ in 0..4 {
            answers.push(text(&engine, warm(None)).await);
        }
    }
    let different: std::collections::HashSet<&String> = answers.iter().collect();
    assert!(different.len() > 5, "{answers:?}");
}

/// Log-probabilities are those of the model's logits, before temperature, penalties and grammar.
#[tokio::test(flavor = "multi_thread")]
async fn logprobs_are_the_log_softmax_of_the_logits() {
    let engine = started("tiny-colm-air", 0).await;
    let rendered = "<|user|>Sort 93 3 71 18.<|end|><|assistant|>";
    let mut tokens = engine.tokenize(rendered).await.unwrap();
    let prompt = tokens.len();
    let mut request = Request::tokens(tokens.clone()).max_tokens(20);
    (request.sampling.temperature, request.sampling.frequency_penalty) = (1.2, Some(1.));
    (request.logprobs, request.seed) = (Some(3), Some(5));
    let answer = engine.answer(request).await.unwrap();
    assert!(answer.tokens.len() > 4);
    tokens.extend(answer.tokens.iter().map(|token| token.id));
    let logits = engine.logits(tokens.clone(), engine.loaded_chains()).await.unwrap();
    for (index, token) in answer.tokens.iter().enumerate() {
        let row: Vec<f32> = logits.get(prompt - 1 + index).unwrap().to_vec1().unwrap();
        let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        let logprob = |id: u32| f64::from(row[id as usize]) - sum.ln();
        let found = token.logprobs.as_ref().unwrap();
        assert!((found.logprob - logprob(token.id)).abs() < 1e-6, "token {index}");
        let mut ids: Vec<u32> = (0..row.len() as u32).collect();
        ids.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
        assert_eq!(found.top.len(), 3);
        for (&(id, found), &expected) in found.top.iter().zip(&ids) {
            assert_eq!(id, expected);
            assert!((found - logprob(id)).abs() < 1e-6);
        }
    }
}

/// The score of a prompt is that of its logits, and the prefix cache is neither used nor filled.
#[tokio::test(flavor = "multi_thread")]
async fn scores_equal_the_logits_and_bypass_the_prefix_cache() {
    for model in ["tiny-colm-air", "tiny-colm"] {
        let engine = started(model, 0).await;
        let tokens: Vec<u32> = (0..300).map(|at| (at * 37 + 11) % 700).collect();
        for k in engine.chain_counts() {
            let logits = engine.logits(tokens.clone(), k).await.unwrap();
            let scores = engine.score(tokens.clone(), k).await.unwrap();
            assert_eq!(scores.len(), tokens.len() - 1);
            for (at, score) in scores.iter().enumerate() {
                let row: Vec<f32> = logits.get(at).unwrap().to_vec1().unwrap();
                let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
                let expected = f64::from(row[tokens[at + 1] as usize]) - sum.ln();
                assert!((score - expected).abs() < 1e-6, "{model}, k = {k}, token {at}");
            }
        }
        assert_eq!(engine.counts().reused, 0);
        // Concurrently with requests whose prompts are in the same steps.
        let alone = engine.score(tokens.clone(), chain_count(3)).await.unwrap();
        let others = join_all((0..8).map(|at| engine.answer(chat(&format!("What is 1{at} + 5?")))));
        let scoring = join_all((0..4).map(|_| engine.score(tokens.clone(), chain_count(3))));
        let (_, scores) = futures::join!(others, scoring);
        assert!(scores.into_iter().all(|scores| scores.unwrap() == alone));
    }
}

/// Compared with the answer without stop strings, cut in the test.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ends_before_the_first_stop_string() {
    let engine = started("tiny-colm-air", 0).await;
    let question = "Reverse: blue fox river";
    let whole = text(&engine, chat(question)).await;
    let characters: Vec<char> = whole.chars().collect();
    for length in 1..=4 {
        for start in 0..characters.len().saturating_sub(length) {
            let stop: String = characters[start..start + length].iter().collect();
            let later: String = characters[characters.len() - 2..].iter().collect();
            let stops = vec!["zzz".to_string(), later.clone(), stop.clone()];
            let at = whole.find(&stop).unwrap().min(whole.find(&later).unwrap());
            let request = chat(question).stop(stops);
            let answer = engine.answer(request.clone()).await.unwrap();
            assert_eq!(answer.text, whole[..at], "{stop:?}");
            assert_eq!(answer.finish_reason, FinishReason::Stop);
            let mut stream = engine.stream(request).await.unwrap();
            let mut streamed = String::new();
            while let Some(piece) = stream.try_next().await.unwrap() {
                streamed += &piece.text;
            }
            assert_eq!(streamed, answer.text, "{stop:?}");
        }
    }
}

/// A stop string that is completed by the last allowed token has the finish reason `stop`.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_string_at_the_last_token_is_a_stop() {
    let engine = started("tiny-colm-air", 0).await;
    let request = chat("Sort 93 3 71 18.").stop(["18"]);
    let answer = engine.answer(request.clone().max_tokens(4)).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.finish_reason), ("3 ", FinishReason::Stop));
    let answer = engine.answer(request.max_tokens(3)).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.finish_reason), ("3 1", FinishReason::Length));
}

#[tokio::test(flavor = "multi_thread")]
async fn max_tokens_of_zero_generates_nothing() {
    let engine = started("tiny-colm-air", 0).await;
    let answer = engine.answer(chat("Sort 93 3 71 18.").max_tokens(0)).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.usage.completion_tokens), ("", 0));
    assert_eq!(answer.finish_reason, FinishReason::Length);
}

/// `min_p` applies without `top_p` too.
#[tokio::test(flavor = "multi_thread")]
async fn min_p_holds_without_top_p() {
    let engine = started("tiny-colm-air", 0).await;
    let greedy = text(&engine, Request::new(warm(None).prompt).max_tokens(40)).await;
    for seed in 0..8 {
        let mut request = warm(Some(seed));
        request.sampling.min_p = Some(0.999);
        assert_eq!(text(&engine, request).await, greedy, "seed {seed}");
    }
}
