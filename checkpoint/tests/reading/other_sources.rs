//! Paths that are not model folders: the error says what they are.

use std::fs;

use colm_checkpoint::inspect::inspect;
use colm_checkpoint::verify::verify;
use colm_checkpoint::{ChainCount, Checkpoint, CheckpointError, Source};

use crate::folder::Folder;
use colm_testing::small_checkpoint::{config_json, parse};

/// Asserts that every function that opens `path` in the folder gives an error with all `words`.
fn assert_error(folder: &Folder, path: &str, words: &[&str]) -> CheckpointError {
    let path = folder.path(path);
    let problems = verify(&path, None, |_| ());
    assert_eq!(problems.len(), 1, "{problems:#?}");
    let error = Source::open(&path).unwrap_err();
    let said = [
        problems[0].to_string(),
        error.to_string(),
        inspect(&path).unwrap_err().to_string(),
        Source::read_config(&path).unwrap_err().to_string(),
    ];
    for said in said {
        for word in words.iter().chain(&["expected a folder with config.json", "safetensors"]) {
            assert!(said.contains(word), "no {word:?} in: {said}");
        }
    }
    error
}

#[test]
fn a_file_is_not_a_folder() {
    let folder = Folder::empty();
    folder.write("a.gguf", "");
    folder.write("b.bin", "GGUF\x03\0\0\0");
    folder.write("c.safetensors", "");
    folder.write("d.pth", "");
    folder.write("e", "");
    let files = [
        ("a.gguf", "is a GGUF file"),
        ("b.bin", "is a GGUF file"),
        ("c.safetensors", "is a single safetensors file"),
        ("d.pth", "is a single PyTorch file"),
        ("e", "is a file;"),
        ("f", "does not exist"),
    ];
    for (file, words) in files {
        let error = assert_error(&folder, file, &[file, words]);
        assert!(matches!(error, CheckpointError::NotAFolder { .. }), "{error}");
        let opened = Checkpoint::open(&folder.path(file), &parse(config_json()), ChainCount::ONE)
            .unwrap_err();
        assert!(opened.to_string().contains(words), "{opened}");
    }
}

#[test]
fn a_folder_without_a_config_is_not_a_model() {
    let folder = Folder::empty();
    assert_error(&folder, "", &["has no config.json", "it is empty"]);
    folder.write("README.md", "");
    assert_error(&folder, "", &["it holds README.md;"]);
    for name in ["a", "b", "c"] {
        folder.write(name, "");
    }
    assert_error(&folder, "", &["it holds README.md, a, b and 1 more"]);
    for (file, kind) in [("model.gguf", "a GGUF file"), ("adapter_config.json", "an adapter")] {
        folder.write(file, "");
        let error = assert_error(&folder, "", &[&format!("it holds {file}"), kind]);
        assert!(matches!(error, CheckpointError::NoConfig { .. }), "{error}");
        fs::remove_file(folder.path(file)).unwrap();
    }
}

#[test]
fn a_config_with_weights_of_another_kind() {
    let folder = Folder::with_config(&config_json());
    folder.write("model.gguf", "GGUF");
    folder.one_problem(&["no weights in", "model.gguf is a GGUF file", "not read"]);
    // Inspecting the config alone works.
    assert_eq!(inspect(&folder.dir).unwrap().layout, None);
}
