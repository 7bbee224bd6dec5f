//! The checkpoints in the repository are what their cards say.

use std::path::{Path, PathBuf};

use colm_train::chain_model::ChainModel;
use colm_train::evaluate::{answer, evaluate, held_out, Evaluation};
use colm_train::tokenizer::Chat;
use colm_train::weights::Weights;

/// The folders of the models that ship.
fn shipped() -> [PathBuf; 2] {
    let models = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models");
    ["tiny-colm-air", "tiny-colm"].map(|name| models.join(name))
}

fn model(folder: &Path) -> ChainModel {
    let (weights, _) = Weights::read(folder).unwrap();
    ChainModel::new(&weights.config, &weights.blocks).unwrap()
}

#[test]
fn they_are_small_enough_for_the_repository() {
    for folder in shipped() {
        let files = folder.read_dir().unwrap();
        let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes <= 12 << 20, "{}: {bytes} bytes", folder.display());
    }
}

#[test]
fn measuring_again_gives_the_figures_of_the_card() {
    for folder in shipped() {
        let (model, chat) = (model(&folder), Chat::load(&folder).unwrap());
        // Some of the prompts behind eval.json: the sample's error is a few points.
        let measured = evaluate(&model, &chat, &held_out(0, 30), 2).unwrap().accuracy();
        let text = std::fs::read_to_string(folder.join("eval.json")).unwrap();
        let written = serde_json::from_str::<Evaluation>(&text).unwrap().accuracy();
        assert_eq!(measured.len(), written.len());
        for (measured, written) in measured.iter().zip(&written) {
            assert!((measured - written).abs() < 0.06, "{measured} here, {written} on the card");
        }
    }
}

#[test]
fn one_pass_decides_what_greedy_decoding_says() {
    let [folder, _] = shipped();
    let (model, chat) = (model(&folder), Chat::load(&folder).unwrap());
    let mut seen = [false, false];
    for dialogue in held_out(7, 2) {
        let dialogues = [dialogue];
        let scores = evaluate(&model, &chat, &dialogues, 1).unwrap();
        for k in [1, 4] {
            let said = answer(&model, &chat, &dialogues[0].prompt, k, 40).unwrap();
            let right = scores.tasks[&dialogues[0].task].right[k - 1] == 1;
            assert_eq!(said == dialogues[0].answer, right, "{} {said}", dialogues[0].prompt);
            seen[usize::from(right)] = true;
        }
    }
    assert_eq!(seen, [true, true], "both right and wrong answers are needed to compare");
}
