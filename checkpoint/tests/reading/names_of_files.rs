//! Weight files of any name.

use std::fs;

use colm_checkpoint::{files_for, ColmConfig, INDEX_FILE};

use crate::folder::Folder;

fn rename(folder: &Folder, from: &str, to: &str) {
    fs::rename(folder.path(from), folder.path(to)).unwrap();
}

/// Asserts that all chains are found in `expected`, and that the folder is complete.
fn assert_files(folder: &Folder, expected: &[&str]) {
    assert_eq!(folder.problems(), Vec::<String>::new());
    let config = ColmConfig::read(&folder.path("config.json")).unwrap();
    let found = files_for(&folder.dir, &config, config.all_chains()).unwrap();
    let found: Vec<_> = found.iter().map(|path| path.file_name().unwrap()).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_folder_may_name_its_files_as_it_likes() {
    let dense = Folder::dense();
    rename(&dense, "model.safetensors", "weights.safetensors");
    // A LoRA adapter beside them is not opened.
    dense.write("adapter_model.safetensors", "no header");
    assert_files(&dense, &["weights.safetensors"]);

    let chains = Folder::chains();
    fs::remove_file(chains.path(INDEX_FILE)).unwrap();
    let names = [1, 2, 3].map(|i| format!("pytorch_model-0000{i}-of-00003.safetensors"));
    for (i, name) in names.iter().enumerate() {
        rename(&chains, &format!("model-chain-0000{}-of-00003.safetensors", i + 1), name);
    }
    assert_files(&chains, &names.each_ref().map(String::as_str));
}

#[test]
fn files_of_any_name_are_checked_as_others_are() {
    let folder = Folder::dense();
    rename(&folder, "model.safetensors", "weights.safetensors");
    folder.write("more.safetensors", "no header");
    folder.one_problem(&["more.safetensors"]);
    fs::copy(folder.path("weights.safetensors"), folder.path("more.safetensors")).unwrap();
    let problems = folder.problems();
    assert!(problems.iter().any(|problem| problem.contains("more.safetensors")), "{problems:?}");
}
