//! The programs in `examples/`, as a user runs them, on the models that ship.

use std::path::Path;
use std::process::{Command, Output};

use colm::{EngineBuilder, Message, Request};
use colm_testing::engine::{engine, options};
use colm_testing::folders::shipped;
use serde_json::Value;

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

/// Per turn, the prompt tokens computed and reused.
fn prompts(output: &str) -> Vec<(usize, usize)> {
    let lines = output.lines().filter_map(|line| line.trim().strip_prefix("prompt: "));
    let numbers = |line: &str| {
        let mut words = line.split(' ').filter_map(|word| word.parse().ok());
        (words.next().unwrap(), words.next().unwrap())
    };
    lines.map(numbers).collect()
}

#[test]
fn switching_chains_computes_what_is_new_in_air_and_everything_in_colm() {
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

#[test]
fn score_file_agrees_with_colm_perplexity() {
    let model = shipped("tiny-colm-air");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text.txt");
    std::fs::write(&file, "What is 27 + 58? Sort 93 3 71 18. The name is Nina.").unwrap();
    let file = file.to_string_lossy();
    let output = Command::new(env!("CARGO_BIN_EXE_colm"))
        .args(["perplexity", "-m", &model, "-f", &file, "--json"])
        .output()
        .unwrap();
    let expected: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let scores = printed("score_file", &[&model, &file]);
    let scores: Vec<f64> = scores
        .lines()
        .filter_map(|line| line.split_once(": ")?.1.strip_suffix(" nats per token")?.parse().ok())
        .collect();
    assert_eq!(scores.len(), 4);
    for (score, expected) in scores.iter().zip(&expected) {
        let expected = expected["nll"].as_f64().unwrap();
        assert!((score - expected).abs() < 2e-5, "{score}, not {expected}");
    }
}

#[test]
fn examples_say_what_they_want() {
    for (name, wants) in [
        ("stream_chat", "MODEL CHAINS QUESTION"),
        ("switch_chains", "MODEL"),
        ("score_file", "MODEL FILE"),
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
