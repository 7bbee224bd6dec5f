//! Runs in progress at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Barrier;

use colm_train::data::Mix;
use colm_train::parallel::in_parallel;
use colm_train::tokenizer::ChatTokenizer;
use colm_train::weights::Weights;

use crate::run_folder::RunFolder;
use crate::setting::Setting;

#[test]
fn a_run_that_two_experiments_need_is_trained_once() {
    let dir = tempfile::tempdir().unwrap();
    // `open` would train a larger tokenizer.
    let chat = ChatTokenizer::train(0, 10, 300, Mix::of_vocabulary()).unwrap();
    chat.save(dir.path(), 512).unwrap();
    let runs = RunFolder::open(dir.path(), Setting { steps: 2 }).unwrap();
    let config = runs.setting.dense(1, chat.vocab_size()).unwrap();
    let (together, starts) = (Barrier::new(2), AtomicUsize::new(0));
    let outcomes = in_parallel(2, &["dense", "grow"], |_| {
        together.wait();
        runs.run("dense1-0", runs.setting.recipe(0, 1), || {
            starts.fetch_add(1, Ordering::Relaxed);
            Weights::random(&config, 0)
        })
    });
    assert!(outcomes.unwrap().iter().all(|outcome| outcome.recipe.steps == 2));
    assert_eq!(starts.into_inner(), 1);
}
