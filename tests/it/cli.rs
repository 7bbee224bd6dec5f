//! The `colm` binary.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use colm_testing::engine::{chain_count, engine, options};
use colm_testing::folders::{golden, model_folder};
use colm_testing::random_model;
use serde_json::{json, Value};
use tempfile::TempDir;

fn colm(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_colm")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn model() -> (TempDir, String) {
    let parent = random_model::folder(&random_model::air());
    let folder = parent.path().join("model").to_string_lossy().into_owned();
    (parent, folder)
}

fn refused(arguments: &[&str], names: &[&str]) {
    let output = colm(arguments);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
    assert!(error.contains("colm: error: "), "{error}");
    for name in names {
        assert!(error.contains(name), "{arguments:?}: `{name}` is missing in: {error}");
    }
}

fn json_of(arguments: &[&str]) -> Vec<Value> {
    let output = colm(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The text that the golden tokenizer encodes as `tokens`: it has one token per character.
fn text_of(tokens: &[u32]) -> String {
    let tokenizer = fs::read_to_string(golden().join("tokenizer.json")).unwrap();
    let tokenizer: Value = serde_json::from_str(&tokenizer).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object().unwrap();
    let character = |token: &u32| {
        let (character, _) = vocabulary.iter().find(|(_, id)| **id == *token).unwrap();
        match character.as_str() {
            "Ġ" => " ".to_string(),
            "Ċ" => "\n".to_string(),
            "<|unknown|>" => "~".to_string(),
            character => character.to_string(),
        }
    };
    tokens.iter().map(character).collect()
}

#[test]
fn perplexity_is_what_the_golden_cases_expect() {
    let mut compared = 0;
    for case in fs::read_dir(golden()).unwrap() {
        let case = case.unwrap().path();
        let Ok(expected) = fs::read_to_string(case.join("expected.json")) else { continue };
        let expected: Value = serde_json::from_str(&expected).unwrap();
        let tokens: Vec<u32> = serde_json::from_value(expected["tokens"].clone()).unwrap();
        let folder = model_folder(&case);
        let file = folder.path().join("text.txt");
        fs::write(&file, text_of(&tokens)).unwrap();
        let (folder, file) = (folder.path().to_string_lossy(), file.to_string_lossy());
        let rows = json_of(&["perplexity", "-m", &folder, "-f", &file, "--json"]);
        assert_eq!(rows.len(), expected["nll"].as_object().unwrap().len());
        for (row, k) in rows.iter().zip(1..) {
            let nll = expected["nll"][k.to_string()].as_f64().unwrap();
            assert_eq!((&row["chains"], &row["tokens"]), (&json!(k), &json!(tokens.len() - 1)));
            assert!(
                (row["nll"].as_f64().unwrap() - nll).abs() < 1e-5,
                "{case:?}: {row}, not {nll}"
            );
            assert!((row["ppl"].as_f64().unwrap() - nll.exp()).abs() < 1e-3, "{case:?}: {row}");
            compared += 1;
        }
    }
    assert!(compared > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stride_scores_every_token_of_a_long_text_once() {
    const CONTEXT: usize = 64;
    const STRIDE: usize = 20;
    let folder = model_folder(&golden().join("colm-2-1-1-gqa"));
    let options = options(folder.path()).prefix_cache(false);
    let engine = engine(&options).await;
    let text: String = ('a'..='z').cycle().step_by(7).take(2 * CONTEXT + 5).collect();
    let tokens = engine.tokenize(&text).await.unwrap();
    let file = folder.path().join("text.txt");
    fs::write(&file, text).unwrap();

    let (mut sum, mut scored) = (0., 1);
    for start in (0..).step_by(STRIDE).take_while(|start| start + CONTEXT < tokens.len() + STRIDE) {
        let end = tokens.len().min(start + CONTEXT);
        let logits = engine.logits(tokens[start..end].to_vec(), chain_count(2)).await.unwrap();
        for (at, &token) in tokens.iter().enumerate().take(end).skip(scored) {
            let row = logits.narrow(0, at - 1 - start, 1).unwrap();
            sum += super::golden::nll(&row, &[0, token]);
        }
        scored = end;
    }
    assert_eq!(scored, tokens.len());

    let (folder, file) = (folder.path().to_string_lossy(), file.to_string_lossy());
    let rows = json_of(&[
        "perplexity",
        "-m",
        &folder,
        "-f",
        &file,
        "--chains",
        "2",
        "--stride",
        "20",
        "--json",
    ]);
    let nll = rows[0]["nll"].as_f64().unwrap();
    assert_eq!(rows[0]["tokens"], tokens.len() - 1);
    assert!((nll - sum / (tokens.len() - 1) as f64).abs() < 1e-5, "{nll} against {sum}");
}

#[test]
fn run_writes_the_answer_to_stdout_and_the_speed_to_stderr() {
    let (_parent, folder) = model();
    let at = |k| colm(&["run", "-m", &folder, "--chains", k, "--max-tokens", "12", "-i", "hello"]);
    let (one, four) = (at("1"), at("4"));
    assert!(one.status.success() && four.status.success(), "{}", text(&one.stderr));
    assert!(!one.stdout.is_empty());
    assert_ne!(one.stdout, four.stdout, "chain counts answer differently");
    assert!(text(&one.stderr).contains("tok/s"), "{}", text(&one.stderr));
    assert_eq!(at("1").stdout, one.stdout, "greedy answers repeat");
}

/// The output of `colm run` with `lines` on stdin.
fn chat(folder: &str, arguments: &[&str], lines: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_colm"))
        .args(["run", "-m", folder, "--max-tokens", "8"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_conversation_reuses_the_cache_at_another_chain_count() {
    let (_parent, folder) = model();
    let lines = "a question of more than thirty-two tokens?\n/chains 2\nand on?\n";
    let output = chat(&folder, &["--conversation"], lines);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("k = 4: ") && said.contains("k = 2: "), "{said}");
    let reused = said.lines().find(|line| line.contains("k = 2: ")).unwrap();
    assert!(reused.contains(" reused") && !reused.contains("(0 reused"), "{reused}");
}

#[test]
fn each_line_of_a_file_is_a_request_of_its_own() {
    let (_parent, folder) = model();
    let said = |arguments: &[&str]| {
        let output = chat(&folder, arguments, "the first question of some length\nand on?\n");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let prompts = |said: &str| {
        let prompt =
            |line: &str| line.strip_prefix("k = 4: prompt ")?.split(' ').next()?.parse().ok();
        said.lines().filter_map(prompt).collect::<Vec<usize>>()
    };
    let (alone, together) = (prompts(&said(&[])), prompts(&said(&["--conversation"])));
    assert_eq!(alone[0], together[0]);
    assert!(alone[1] < alone[0] && together[1] > together[0], "{alone:?} {together:?}");
}

#[test]
fn a_script_stops_at_an_invalid_line() {
    let (_parent, folder) = model();
    for (line, name) in [("/chains 9", "from 1 to 4"), ("/chain 2", "/chains k")] {
        let output = chat(&folder, &[], &format!("{line}\nhello\n"));
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(name), "{error}");
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    }
}

#[test]
fn bench_measures_every_chain_count() {
    let (_parent, folder) = model();
    let rows = json_of(&[
        "bench", "-m", &folder, "-p", "24", "-n", "4", "-c", "2", "--chains", "1,4", "--json",
    ]);
    let measured: Vec<_> = rows.iter().map(|row| row["chains"].as_u64().unwrap()).collect();
    assert_eq!(measured, [1, 4]);
    assert!(rows.iter().all(|row| row["prefill_tok_s"].as_f64().unwrap() > 0.), "{rows:?}");
    // The first request decodes while the prompts of the others are processed.
    let rows = json_of(&[
        "bench",
        "-m",
        &folder,
        "-p",
        "100",
        "-n",
        "2",
        "-c",
        "3",
        "--chains",
        "4",
        "--prefill-chunk",
        "32",
        "--drafts",
        "2",
        "--runs",
        "2",
        "--json",
    ]);
    assert!(rows[0]["decode_tok_s"].as_f64().unwrap() > 0., "{rows:?}");
}

#[test]
fn errors_name_the_cause() {
    let (parent, folder) = model();
    let in_folder = |name: &str| parent.path().join(name).to_string_lossy().into_owned();
    let (empty, binary, missing) = (in_folder("empty.txt"), in_folder("binary"), in_folder("none"));
    fs::write(&empty, "").unwrap();
    fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    refused(&["run", "-m", "no-such-folder", "-i", "x"], &["no-such-folder", "folder"]);
    refused(&["run", "-m", &folder, "--chains", "9", "-i", "x"], &["9", "from 1 to 4"]);
    refused(&["run", "-m", &folder, "--max-chains", "0", "-i", "x"], &["--max-chains 0", "1 to 4"]);
    refused(&["run", "-m", &folder, "--kv-cache-mb", "999999999", "-i", "x"], &["--kv-cache-mb"]);
    refused(&["run", "-m", &folder, "-i", &"long ".repeat(200)], &["512"]);
    refused(&["serve", "-m", &folder, "-p", "0", "--elastic", "8:5"], &["--elastic", "at most 4"]);
    refused(
        &["run", "-m", &folder, "--isq", "afq4", "-i", "x"],
        &["--isq afq4", "not a multiple of 64"],
    );
    refused(&["perplexity", "-m", &folder, "-f", &missing], &[&missing]);
    refused(&["perplexity", "-m", &folder, "-f", &empty], &[&empty]);
    refused(&["perplexity", "-m", &folder, "-f", &binary], &[&binary, "UTF-8"]);
    refused(&["bench", "-m", &folder, "-p", "4096", "-n", "1"], &["4096", "512"]);
}
