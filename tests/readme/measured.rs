//! The numbers in the README are those in the documents that it cites.

use std::collections::BTreeMap;
use std::process::Command;

use regex::Regex;

use crate::document::{block_after, program, read, root};

/// The rows of all tables: the first cell of a row, and its other cells. The first row of several with the same cell counts.
fn rows(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut rows = BTreeMap::new();
    for row in text.lines().filter_map(|line| line.strip_prefix("| ")) {
        let mut cells = row.split('|').map(|cell| cell.trim().to_string());
        let first = cells.next().unwrap_or_default();
        rows.entry(first).or_insert_with(|| cells.filter(|cell| !cell.is_empty()).collect());
    }
    rows
}

#[test]
fn accuracies_are_those_of_the_model_cards() {
    let (readme, text) = (rows(&read("README.md")), read("README.md"));
    let card = rows(&read("models/tiny-colm-air/README.md"));
    for (row, task) in [
        ("mean of the 19 kinds", "**mean of the tasks**"),
        ("what is the remainder of 47 divided by 6?", "remainder"),
        ("which month is 6 months before July?", "month"),
        ("sort 93 3 71 18", "sort"),
        ("what is 27 + 58?", "add"),
        ("reverse: blue fox river", "reverse"),
    ] {
        // The card begins with the number of questions.
        assert_eq!(readme[row], card[task][1..], "{row}");
    }
    let plain = &rows(&read("models/tiny-colm/README.md"))["**mean of the tasks**"];
    let said = format!("{}, {}, {} and {} %", plain[1], plain[2], plain[3], plain[4]);
    assert!(text.contains(&said), "README.md does not say: {said}");
}

#[test]
fn results_of_the_study_are_in_the_study() {
    let study = read("docs/study/README.md");
    let result = Regex::new(r"\d+\.\d+ ± \d+\.\d+").unwrap();
    let readme = read("README.md");
    let found: Vec<&str> = result.find_iter(&readme).map(|found| found.as_str()).collect();
    assert!(found.len() >= 3, "{found:?}");
    for result in found {
        assert!(study.contains(result), "{result}");
    }
}

/// The last digits of the sums may differ on processors without fused multiply-add.
#[test]
fn the_scores_of_the_answers_are_as_printed() {
    let arguments = crate::commands::command("--example score_answers");
    let arguments = arguments.iter().skip_while(|word| *word != "--").skip(1);
    let output = Command::new(program("examples/score_answers"))
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = String::from_utf8(output.stdout).unwrap();
    let expected = block_after("--example score_answers", "text");
    assert_eq!(found.lines().count(), expected.lines().count(), "{found}");
    let score = |line: &str| line.split(' ').nth(3).unwrap().parse::<f64>().unwrap();
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found.split(':').next(), expected.split(':').next());
        assert!((score(found) - score(expected)).abs() < 1e-4, "{found}, not {expected}");
    }
}
