//! What `make demo`, the chat and the benchmark print.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use regex::Regex;

use crate::commands::command;
use crate::document::{block_after, program, root};

/// An answer that the README prints for `make demo`.
#[derive(Debug)]
pub struct Demo {
    pub model: String,
    pub chains: String,
    pub question: String,
    answer: String,
}

/// What `make demo` prints, as the README has it.
pub fn demo() -> Vec<Demo> {
    let text = block_after("make demo", "text");
    let one = Regex::new(r"--- (\S+) at (\d+) chain\(s\): (.*)\n(.*)\n").unwrap();
    let all: Vec<Demo> = one
        .captures_iter(&text)
        .map(|found| {
            let [model, chains, question, answer] = [1, 2, 3, 4].map(|at| found[at].to_string());
            Demo { model, chains, question, answer }
        })
        .collect();
    assert_eq!(2 * all.len(), text.lines().count(), "{text}");
    all
}

/// Runs a program of the README in the repository's folder.
fn run(words: &[String], input: &str) -> Output {
    let name = words[0].strip_prefix("target/debug/").unwrap();
    let mut child = Command::new(program(name))
        .args(&words[1..])
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What a program of the README prints to stdout.
fn printed(words: &[String], input: &str) -> String {
    let output = run(words, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[test]
fn the_demo_prints_the_answers() {
    let demo = demo();
    assert_eq!(demo.len(), 4);
    for Demo { model, chains, question, answer } in demo {
        let run = words(&[
            "target/debug/colm",
            "run",
            "-m",
            &model,
            "--chains",
            &chains,
            "-i",
            &question,
        ]);
        assert_eq!(printed(&run, ""), format!("{answer}\n"), "{run:?}");
    }
}

/// In a terminal the questions come after prompts `k=4> `. Here they come from a pipe, which gets no greeting; a unit test
/// of the program compares that.
#[test]
fn the_chat_goes_as_printed() {
    let chat = command("colm run -m models/tiny-colm-air");
    let transcript = block_after("colm run -m", "text");
    let (mut input, mut expected) = (String::new(), String::new());
    let question = Regex::new(r"^k=(\d+)> (.*)$").unwrap();
    let mut chains = 4;
    for line in transcript.lines().skip_while(|line| !question.is_match(line)) {
        let Some(found) = question.captures(line) else {
            expected += &format!("{line}\n");
            continue;
        };
        assert_eq!(found[1], chains.to_string(), "{line}");
        if let Some(k) = found[2].strip_prefix("/chains ") {
            chains = k.parse().unwrap();
        }
        input += &format!("{}\n", &found[2]);
    }
    let chat = [chat, words(&["--conversation"])].concat();
    assert_eq!(printed(&chat, &input), expected);
}

#[test]
fn the_bench_measures_every_chain_count() {
    let table = printed(&command("colm bench"), "");
    let chains = table.lines().skip(1).map(|row| row.split_whitespace().next().unwrap());
    assert_eq!(chains.collect::<Vec<_>>(), ["1", "1", "2", "2", "3", "3", "4", "4"], "{table}");
}
