//! Self-speculation gives the same tokens as decoding without drafts.

use std::path::Path;

use colm::{Engine, Message, Request};
use colm_checkpoint::convert::{expand, Growth, Init};
use colm_checkpoint::{Architecture, Chains, Layout, Source};
use colm_testing::engine::{chain_count, engine, options};
use colm_testing::folders::shipped;
use colm_testing::random_model::{self, token_ids, with};
use colm_train::evaluate::held_out;
use serde_json::json;

async fn with_drafts(model: &str, drafts: usize) -> Engine {
    engine(&options(Path::new(&shipped(model))).max_drafts(drafts).block_size(8)).await
}

fn question(text: &str) -> Request {
    Request::chat(vec![Message::user(text)]).max_tokens(60)
}

/// Questions that the first chain of the shipped models answers correctly, wrongly and in part.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_and_drafts_are_accepted() {
    for model in ["tiny-colm-air", "tiny-colm"] {
        let (plain, drafting) = (with_drafts(model, 0).await, with_drafts(model, 6).await);
        for (index, dialogue) in held_out(7, 2).into_iter().enumerate() {
            let request = question(&dialogue.prompt).chains(chain_count(2 + index % 3));
            let expected = plain.answer(request.clone()).await.unwrap();
            let found = drafting.answer(request).await.unwrap();
            assert_eq!(found.text, expected.text, "{model}: {}", dialogue.prompt);
            assert_eq!(found.usage.completion_tokens, expected.usage.completion_tokens);
        }
        let counts = drafting.counts();
        assert!(counts.accepted > 0 && counts.accepted < counts.drafted, "{counts:?}");
        assert_eq!(plain.counts().drafted, 0);
        assert_eq!(plain.counts().decoded, counts.decoded, "number of decoded tokens");
    }
}

/// The engine samples from the same logits with the same random numbers, so it gets the same tokens, and rejects drafts
/// that differ from them.
#[tokio::test(flavor = "multi_thread")]
async fn sampled_answers_are_the_same() {
    let (plain, drafting) =
        (with_drafts("tiny-colm-air", 0).await, with_drafts("tiny-colm-air", 4).await);
    for index in 0..8u32 {
        let mut request = question("Reverse: river window train bridge paper").max_tokens(30);
        request.sampling.temperature = 0.5 + f64::from(index) / 4.;
        request.seed = Some(index.into());
        let expected = plain.answer(request.clone()).await.unwrap();
        let found = drafting.answer(request).await.unwrap();
        assert_eq!(found.text, expected.text, "answer {index}");
    }
    let counts = drafting.counts();
    assert!(counts.accepted > 0 && counts.accepted < counts.drafted, "{counts:?}");
}

/// The cache of a turn that was answered with drafts is reused in the next turn.
#[tokio::test(flavor = "multi_thread")]
async fn the_cache_after_drafts_is_reused_in_the_next_turn() {
    let drafting = with_drafts("tiny-colm-air", 6).await;
    let mut messages = Vec::new();
    for (turn, text) in [
        "Copy: river window train bridge",
        "Sort 93 3 71 18.",
        "What is 27 + 58?",
        "Say backwards: road bridge",
    ]
    .into_iter()
    .enumerate()
    {
        messages.push(Message::user(text));
        let request =
            Request::chat(messages.clone()).chains(chain_count(4 - turn % 2)).max_tokens(60);
        let before = drafting.counts();
        let answer = drafting.answer(request.clone()).await.unwrap();
        let reused = drafting.counts().since(before).reused;
        assert!(turn == 0 || reused > 0, "turn {turn}");
        let fresh = with_drafts("tiny-colm-air", 0).await.answer(request).await.unwrap();
        assert_eq!(answer.text, fresh.text, "turn {turn}");
        messages.push(Message::assistant(answer.text));
    }
    assert!(drafting.counts().accepted > 0);
}

/// A grown model that is not trained predicts the same at every chain count, so no draft is ever wrong. Prompts that are
/// computed meanwhile do not reject drafts.
#[tokio::test(flavor = "multi_thread")]
async fn prompts_of_others_leave_drafts_alone() {
    let config = with(random_model::air(), |json| {
        json["chains"] = json!([1]);
        // A draft may be the end token.
        json.as_object_mut().unwrap().remove("eos_token_id");
    });
    let folder = random_model::folder(&config);
    let source = Source::open(&folder.path().join("model")).unwrap();
    let growth = Growth::Ratios(Chains::new(vec![1, 1]).unwrap());
    let plan = expand(&source, &growth, Architecture::ColmAir, Init::Zero, 7, Layout::Chains);
    let grown = folder.path().join("grown");
    plan.unwrap().write(&source, &grown, false, |_| ()).unwrap();
    // Some prompts are computed in several steps, of which only the last one has logits for them.
    let options = options(&grown).max_drafts(6).max_seqs(8).prefill_chunk(32);
    let engine = engine(&options).await;
    let others = async {
        for prompt in (0..50).cycle() {
            let request = Request::tokens(token_ids(20 + 5 * prompt)).max_tokens(1);
            engine.answer(request).await.unwrap();
        }
    };
    let answers = async {
        let (mut rejected, mut accepted) = (0, 0);
        for prompt in 1..=100 {
            let request = Request::tokens(token_ids(prompt));
            let usage = engine.answer(request).await.unwrap().usage;
            // The last drafts are for tokens after the end.
            rejected += usage.drafted_tokens.saturating_sub(usage.accepted_tokens + 6);
            accepted += usage.accepted_tokens;
        }
        (rejected, accepted)
    };
    let (rejected, accepted) = tokio::select! {
        counts = answers => counts,
        () = others => unreachable!("it does not end"),
    };
    assert!(rejected == 0 && accepted > 200, "{rejected} rejected, {accepted} accepted");
}

/// At one chain there is no smaller model to draft with.
#[tokio::test(flavor = "multi_thread")]
async fn one_chain_has_no_drafts() {
    let drafting = with_drafts("tiny-colm-air", 6).await;
    drafting.answer(question("Sort 93 3 71 18.").chains(chain_count(1))).await.unwrap();
    assert_eq!(drafting.counts().drafted, 0);
}
