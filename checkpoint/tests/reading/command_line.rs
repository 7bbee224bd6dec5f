//! The output of `colm-convert inspect` and `verify`.

use std::process::{Command, Output};

use serde_json::{json, Value};

use crate::folder::Folder;
use colm_testing::small_checkpoint::{config_json, with};

fn run(folder: &Folder, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_colm-convert"));
    command.arg(arguments[0]).arg(&folder.dir).args(&arguments[1..]).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn inspect_prints_aligned_columns() {
    let folder = Folder::chains();
    let output = run(&folder, &["inspect"]);
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{printed}{}", text(&output.stderr));
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines[0], "CoLMForCausalLM, chains [2, 1, 1]");
    let costs = lines.iter().position(|line| line.contains("parameters")).unwrap();
    // The heading and a row for each k have the same length. The last number counts the files.
    for (k, row) in lines[costs..costs + 4].iter().enumerate() {
        assert_eq!(row.len(), lines[costs].len(), "{printed}");
        assert_eq!(row.ends_with(&format!(" {k}")), k > 0, "{printed}");
    }
    assert!(lines[costs + 1].contains("1.560 k"), "{printed}");

    let alone = Folder::with_config(&config_json());
    assert!(text(&run(&alone, &["inspect"]).stdout).contains("no weights found"));
}

#[test]
fn inspect_prints_json() {
    let output = run(&Folder::chains(), &["inspect", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["costs"][0]["parameters"], 1560);
}

#[test]
fn the_exit_code_of_verify_says_whether_there_are_problems() {
    let output = run(&Folder::dense(), &["verify"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("no problems"));

    let folder = Folder::dense();
    folder.write("tokenizer.json", "");
    folder.write("generation_config.json", "{");
    let output = run(&folder, &["verify"]);
    assert_eq!(output.status.code(), Some(1));
    let listed = text(&output.stdout);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.contains("tokenizer.json") && listed.contains("generation_config.json"));
    assert!(text(&output.stderr).contains("2 problems"));
}

#[test]
fn verify_prints_at_most_100_problems() {
    let folder = Folder::dense();
    let config = with(config_json(), |json| json["num_hidden_layers"] = json!(1_000));
    folder.write("config.json", config.to_string());
    let output = run(&folder, &["verify"]);
    let listed = text(&output.stdout);
    assert_eq!(listed.lines().count(), 101, "{listed}");
    // Nine tensors of each missing layer.
    let (all, more) = (998 * 9, 998 * 9 - 100);
    let last = listed.lines().last().unwrap();
    assert!(last.ends_with(&format!("at least {more} more problems are not listed")), "{last}");
    assert!(text(&output.stderr).contains(&format!("at least {all} problems")));
}
