//! The `colm` binary as a user calls it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::engine;
use crate::common::options;
use crate::random_model;

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

#[tokio::test(flavor = "multi_thread")]
async fn perplexity_is_the_engines_nll_at_every_chain_count() {
    let (parent, folder) = model();
    let file = parent.path().join("text.txt");
    fs::write(&file, "9 (mB1 <bB; 2!2 ru: 0c52tmB1 3z*").unwrap();
    let output = colm(&["perplexity", "-m", &folder, "-f", &file.to_string_lossy(), "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows.len(), 4);

    let mut options = options(Path::new(&folder));
    options.prefix_cache = false;
    let engine = engine(&options).await;
    let tokens = engine.tokenize(&fs::read_to_string(&file).unwrap()).await.unwrap();
    for (row, k) in rows.iter().zip(1..) {
        assert_eq!(row["chains"], k);
        assert_eq!(row["tokens"], tokens.len() - 1);
        let logits = engine.logits(tokens.clone(), k).await.unwrap();
        let nll = super::golden::nll(&logits, &tokens);
        assert!((row["nll"].as_f64().unwrap() - nll).abs() < 1e-5, "{row} against {nll}");
        assert!((row["ppl"].as_f64().unwrap() - nll.exp()).abs() < 1e-3, "{row}");
    }
}

#[test]
fn run_answers_on_stdout_and_tells_the_speed_on_stderr() {
    let (_parent, folder) = model();
    let at = |k| colm(&["run", "-m", &folder, "--chains", k, "--max-tokens", "12", "-i", "hello"]);
    let (one, four) = (at("1"), at("4"));
    assert!(one.status.success() && four.status.success(), "{}", text(&one.stderr));
    assert!(!one.stdout.is_empty());
    assert_ne!(one.stdout, four.stdout, "chain counts answer differently");
    assert!(text(&one.stderr).contains("tok/s"), "{}", text(&one.stderr));
    assert_eq!(at("1").stdout, one.stdout, "greedy answers repeat");
}

#[test]
fn bench_measures_every_chain_count() {
    let (_parent, folder) = model();
    let output =
        colm(&["bench", "-m", &folder, "-p", "24", "-n", "4", "-c", "2", "--chains", "1,4", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let measured: Vec<_> = rows.iter().map(|row| row["chains"].as_u64().unwrap()).collect();
    assert_eq!(measured, [1, 4]);
    assert!(rows.iter().all(|row| row["prefill_tok_s"].as_f64().unwrap() > 0.), "{rows:?}");
}

#[test]
fn what_is_wrong_is_named() {
    let (parent, folder) = model();
    let in_folder = |name: &str| parent.path().join(name).to_string_lossy().into_owned();
    let (empty, binary, missing) = (in_folder("empty.txt"), in_folder("binary"), in_folder("none"));
    fs::write(&empty, "").unwrap();
    fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    refused(&["run", "-m", "no-such-folder", "-i", "x"], &["no-such-folder", "folder"]);
    refused(&["run", "-m", &folder, "--chains", "9", "-i", "x"], &["9", "from 1 to 4"]);
    refused(&["run", "-m", &folder, "--max-chains", "0", "-i", "x"], &["--max-chains 0", "1 to 4"]);
    refused(&["perplexity", "-m", &folder, "-f", &missing], &[&missing]);
    refused(&["perplexity", "-m", &folder, "-f", &empty], &[&empty]);
    refused(&["perplexity", "-m", &folder, "-f", &binary], &[&binary, "UTF-8"]);
    refused(&["bench", "-m", &folder, "-p", "4096", "-n", "1"], &["4096", "512"]);
}
