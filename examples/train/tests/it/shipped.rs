//! The checkpoints in `models/`, and what cards and README say about them.

use std::path::{Path, PathBuf};

use colm_train::chain_model::ChainModel;
use colm_train::data::{Dialogue, Task};
use colm_train::evaluate::{answer, evaluate, held_out, Evaluation};
use colm_train::tokenizer::{ChatTokenizer, ASSISTANT, END, USER};
use colm_train::weights::Weights;

/// The folders of the shipped models.
fn shipped() -> [PathBuf; 2] {
    let models = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models");
    ["tiny-colm-air", "tiny-colm"].map(|name| models.join(name))
}

fn model(folder: &Path) -> ChainModel {
    let (weights, _) = Weights::read(folder).unwrap();
    ChainModel::new(&weights.config, &weights.blocks).unwrap()
}

#[test]
fn the_models_have_at_most_12_mib() {
    for folder in shipped() {
        let files = folder.read_dir().unwrap();
        let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes <= 12 << 20, "{}: {bytes} bytes", folder.display());
    }
}

fn stored(folder: &Path) -> Evaluation {
    let text = std::fs::read_to_string(folder.join("eval.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Evaluates again what `eval.json` has: all held-out prompts, at every k.
#[test]
fn evaluating_again_gives_the_stored_scores() {
    for folder in shipped() {
        let (model, chat) = (model(&folder), ChatTokenizer::load(&folder).unwrap());
        let found = evaluate(&model, &chat, &held_out(0, 200), 2).unwrap();
        let stored = stored(&folder);
        assert_eq!(found.tasks.len(), Task::SCORED.len());
        for (task, found) in &found.tasks {
            let stored = &stored.tasks[task];
            assert_eq!(found.prompts, stored.prompts, "{task:?}");
            assert_eq!(found.correct.len(), stored.correct.len(), "{task:?}");
            for (found, stored) in found.correct.iter().zip(&stored.correct) {
                // Rounding may change the choice between two tokens of nearly equal logits.
                assert!(found.abs_diff(*stored) <= 1, "{task:?}: {found}, stored {stored}");
            }
        }
    }
}

/// The figures of a list of shares, in percent as the documents have them.
fn percent(shares: &[f64]) -> Vec<String> {
    shares.iter().map(|share| format!("{:.1}", 100. * share)).collect()
}

#[test]
fn the_model_cards_have_the_stored_scores() {
    for folder in shipped() {
        let card = std::fs::read_to_string(folder.join("README.md")).unwrap();
        let stored = stored(&folder);
        for (task, score) in &stored.tasks {
            let figures = percent(&score.accuracy()).join(" | ");
            let row = format!("| {} | {} | {figures} |", task.name(), score.prompts);
            assert!(card.contains(&row), "{}: no {row}", folder.display());
        }
        let prompts: usize = stored.tasks.values().map(|score| score.prompts).sum();
        let row = format!("| {prompts} | {} |", percent(&stored.accuracy()).join(" | "));
        assert!(card.contains(&row), "{}: no {row}", folder.display());
    }
}

/// The numbers with one decimal in `text`, in order.
fn decimals(text: &str) -> Vec<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let words = words.map(|word| word.trim_matches('.'));
    words.filter(|word| word.split_once('.').is_some_and(|(_, tail)| tail.len() == 1)).collect()
}

/// The README has the means of both models, and a table of some tasks at k = 1 to 4.
#[test]
fn the_readme_has_the_stored_scores() {
    let readme = std::fs::read_to_string(shipped()[0].join("../../README.md")).unwrap();
    let means = shipped().map(|folder| percent(&stored(&folder).accuracy()));
    for mean in &means {
        let found = decimals(&readme).windows(4).any(|four| four == mean.as_slice());
        assert!(found, "README.md has no {mean:?}");
    }
    let of_air = stored(&shipped()[0]);
    let mut known: Vec<_> = of_air.tasks.values().map(|score| percent(&score.accuracy())).collect();
    known.push(means[0].clone());
    let table = readme.split("| k = 4 |").nth(1).expect("a table with a column per chain count");
    let rows: Vec<_> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 3, "{rows:?}");
    for row in rows {
        assert!(known.iter().any(|known| *known == decimals(row)), "no task has the figures {row}");
    }
}

/// `examples/held_out.tsv` has five held-out dialogues of every task.
#[test]
fn the_held_out_file_is_that_of_the_generator() {
    let line = |Dialogue { prompt, answer, .. }: Dialogue| {
        format!("{USER}{prompt}{END}{ASSISTANT}\t{answer}{END}\n")
    };
    let expected: String = held_out(12, 5).into_iter().map(line).collect();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../held_out.tsv");
    assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
}

#[test]
fn one_forward_pass_scores_as_greedy_decoding() {
    let [folder, _] = shipped();
    let (model, chat) = (model(&folder), ChatTokenizer::load(&folder).unwrap());
    let mut seen = [false, false];
    for dialogue in held_out(7, 2) {
        let dialogues = [dialogue];
        let scores = evaluate(&model, &chat, &dialogues, 1).unwrap();
        for k in [1, 4] {
            let said = answer(&model, &chat, &dialogues[0].prompt, k, 40).unwrap();
            let right = scores.tasks[&dialogues[0].task].correct[k - 1] == 1;
            assert_eq!(said == dialogues[0].answer, right, "{} {said}", dialogues[0].prompt);
            seen[usize::from(right)] = true;
        }
    }
    assert_eq!(seen, [true, true], "both right and wrong answers are needed to compare");
}
