//! The programs in `examples/`, run on the models in `models/`.

use std::path::Path;
use std::process::{Command, Output};

use colm::{EngineBuilder, Message, Request};
use colm_testing::engine::{engine, options};
use colm_testing::folders::shipped;
use colm_train::chain_model::ChainModel;
use colm_train::evaluate::{evaluate, held_out};
use colm_train::tokenizer::ChatTokenizer;
use colm_train::weights::Weights;

fn example(name: &str, arguments: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_colm")).with_file_name("examples").join(name);
    let output = Command::new(&program).args(arguments).output();
    output.unwrap_or_else(|error| {
        panic!("{}: {error}; `cargo build --examples` builds it", program.display())
    })
}

fn printed(name: &str, arguments: &[&str]) -> String {
    let output = example(name, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_chat_prints_the_answer() {
    let model = shipped("tiny-colm-air");
    let question = "Which month is 6 months before July?";
    let engine = engine(&options(Path::new(&model))).await;
    let mut answers = Vec::new();
    for k in ["1", "4"] {
        let request = Request::chat([Message::user(question)]);
        let k_chains = engine.chain_count(k.parse().unwrap()).unwrap();
        let answer = engine.answer(request.chains(k_chains)).await.unwrap();
        let found = printed("stream_chat", &[&model, k, question]);
        assert_eq!(found, format!("{} [stop]\n", answer.text));
        answers.push(found);
    }
    assert_eq!(answers[1], "January [stop]\n");
}

/// The prompt tokens computed and reused in every turn.
fn prompts(output: &str) -> Vec<(usize, usize)> {
    let lines = output.lines().filter_map(|line| line.trim().strip_prefix("prompt: "));
    let numbers = |line: &str| {
        let mut words = line.split(' ').filter_map(|word| word.parse().ok());
        (words.next().unwrap(), words.next().unwrap())
    };
    lines.map(numbers).collect()
}

#[test]
fn after_a_switch_air_computes_new_tokens_only_and_colm_all() {
    let block = EngineBuilder::DEFAULT_BLOCK_SIZE;
    let air = prompts(&printed("switch_chains", &[&shipped("tiny-colm-air")]));
    assert_eq!(air.len(), 4);
    for turn in air.windows(2) {
        let [(computed, reused), (_, again)] = turn else { unreachable!() };
        assert!(*again + block > computed + reused, "{air:?}");
    }

    let colm = prompts(&printed("switch_chains", &[&shipped("tiny-colm")]));
    assert_eq!(colm.len(), 4);
    assert!(colm.iter().all(|(_, reused)| *reused == 0), "{colm:?}");
}

/// The example and the trainer's evaluation compute the same loss on the held-out dialogues, and every chain lowers it.
#[test]
fn score_answers_agrees_with_the_trainer() {
    let model = shipped("tiny-colm-air");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/held_out.tsv");
    let scores = printed("score_answers", &[&model, file]);
    let scores: Vec<f64> = scores
        .lines()
        .map(|line| {
            line.split([' ', ':']).filter_map(|word| word.parse().ok()).next_back().unwrap()
        })
        .collect();
    assert_eq!(scores.len(), 4);
    assert!(scores.windows(2).all(|pair| pair[1] < pair[0]), "{scores:?}");

    let weights = Weights::read(Path::new(&model)).unwrap().0;
    let reference = ChainModel::new(&weights.config, &weights.blocks).unwrap();
    let chat = ChatTokenizer::load(Path::new(&model)).unwrap();
    let evaluation = evaluate(&reference, &chat, &held_out(12, 5), 2).unwrap();
    let tokens: usize = evaluation.tasks.values().map(|score| score.tokens).sum();
    for (k, score) in scores.iter().enumerate() {
        let sum: f64 = evaluation.tasks.values().map(|score| score.loss_sums[k]).sum();
        let expected = sum / tokens as f64;
        assert!((score - expected).abs() < 1e-4, "k = {}: {score}, not {expected}", k + 1);
    }
}

#[test]
fn score_answers_names_an_invalid_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dialogues.tsv");
    std::fs::write(&file, "<|user|>Hi<|end|><|assistant|>\tHello!\nno tab\n").unwrap();
    let output = example("score_answers", &[&shipped("tiny-colm-air"), &file.to_string_lossy()]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("dialogues.tsv, line 2: expected PROMPT"), "{error}");
}

#[test]
fn missing_arguments_print_the_usage() {
    for (name, wants) in [
        ("stream_chat", "MODEL CHAINS QUESTION"),
        ("switch_chains", "MODEL"),
        ("score_answers", "MODEL FILE"),
    ] {
        let output = example(name, &[]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(error.contains(&format!("usage: {name} {wants}")), "{error}");
    }
    let model = shipped("tiny-colm-air");
    let output = example("stream_chat", &[&model, "9", "Hello"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && error.contains("1 to 4"), "{error}");
}
