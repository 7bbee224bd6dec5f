//! Folders to convert, and their contents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use colm_checkpoint::{ColmConfig, Dtype, Source};
use safetensors::SafeTensors;

/// Runs `colm-convert` in `dir`.
pub fn convert(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_colm-convert"));
    command.current_dir(dir).args(arguments).output().unwrap()
}

/// Runs `colm-convert` in `dir`, which must succeed.
pub fn converted(dir: &Path, arguments: &[&str]) -> String {
    let output = convert(dir, arguments);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", said(&output.stderr));
    said(&output.stdout)
}

/// Runs `colm-convert` in `dir`, which must fail with a message that contains all of `words`.
pub fn assert_error(dir: &Path, arguments: &[&str], words: &[&str]) {
    let output = convert(dir, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: no {word:?} in: {said}");
    }
}

/// Sets the last column of the first row of `tensor` in the f32 model.safetensors of `dir`, which chain 1 must not read.
pub fn write_above_diagonal(dir: &Path, tensor: &str, value: f32) {
    let file = dir.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let at = {
        let read = SafeTensors::deserialize(&bytes).unwrap();
        let view = read.tensor(tensor).unwrap();
        view.data().as_ptr() as usize - bytes.as_ptr() as usize + (view.shape()[1] - 1) * 4
    };
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    fs::write(&file, bytes).unwrap();
}

/// The names of the entries of `dir`, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Dtype, shape and bytes of every tensor of a folder's weight files, by name.
pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

pub fn tensors(dir: &Path) -> Tensors {
    let mut tensors = Tensors::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("model") || !name.ends_with(".safetensors") {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            tensors.insert(name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
        }
    }
    assert!(!tensors.is_empty(), "no tensors in {}", dir.display());
    tensors
}

pub fn config(dir: &Path) -> ColmConfig {
    ColmConfig::read(&dir.join("config.json")).unwrap()
}

/// The f32 values of a chain's tensor, by its name in the chain layout.
pub fn values(dir: &Path) -> BTreeMap<String, Vec<f32>> {
    let source = Source::open(dir).unwrap();
    let config = source.config();
    let value = |tensor| {
        let block = source.tensor(&tensor).unwrap();
        assert_eq!(block.dtype(), Dtype::F32);
        let bytes = block.bytes();
        let numbers = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        (tensor.name(), numbers.collect())
    };
    config.tensors(config.all_chains()).map(value).collect()
}

/// The golden models, in both layouts.
pub fn golden() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let cases = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let cases: Vec<_> = cases.filter(|path| path.join("config.json").exists()).collect();
    assert!(cases.len() > 8, "{cases:?}");
    cases
}
