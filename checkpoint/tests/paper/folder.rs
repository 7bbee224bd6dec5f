//! A temporary folder in the paper's conventions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use colm_checkpoint::verify::verify;
use colm_checkpoint::Source;
use colm_testing::folders::golden;
use colm_testing::small_checkpoint::Tensor;
use safetensors::SafeTensors;
use serde_json::Value;

/// The weights of a golden folder.
pub const FILE: &str = "consolidated.safetensors";
/// The golden models in the chain layout. With `-paper` added, these are the names of the same models in the paper's
/// conventions.
pub const COLM: &str = "colm-8-4";
pub const AIR: &str = "air-6-4-2";

pub type Tensors = BTreeMap<String, Tensor>;

pub struct Folder {
    temporary: tempfile::TempDir,
    pub dir: PathBuf,
}

impl Folder {
    /// The golden model in the paper's conventions.
    pub fn golden(model: &str) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("model");
        fs::create_dir(&dir).unwrap();
        for file in ["params.json", FILE] {
            fs::copy(golden().join(format!("{model}-paper")).join(file), dir.join(file)).unwrap();
        }
        Self { temporary, dir }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    pub fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(file), bytes).unwrap();
    }

    pub fn remove(&self, file: &str) {
        fs::remove_file(self.path(file)).unwrap();
    }

    pub fn params(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("params.json")).unwrap()).unwrap()
    }

    pub fn change_params(&self, change: impl FnOnce(&mut Value)) {
        let mut params = self.params();
        change(&mut params);
        self.write("params.json", params.to_string());
    }

    pub fn tensors(&self) -> Tensors {
        tensors(&self.path(FILE))
    }

    pub fn write_tensors(&self, file: &str, tensors: &Tensors) {
        safetensors::serialize_to_file(tensors.clone(), None, &self.path(file)).unwrap();
    }

    pub fn change_tensors(&self, change: impl FnOnce(&mut Tensors)) {
        let mut tensors = self.tensors();
        change(&mut tensors);
        self.write_tensors(FILE, &tensors);
    }

    /// The messages of all its problems.
    pub fn problems(&self) -> Vec<String> {
        verify(&self.dir, None, |_| ()).iter().map(ToString::to_string).collect()
    }

    /// Asserts that it cannot be opened, with a message that contains all `words`, and that `verify` gives the same one
    /// among others.
    pub fn assert_error(&self, words: &[&str]) {
        let error = Source::open(&self.dir).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "no {word:?} in: {error}");
        }
        let problems = self.problems();
        assert!(problems.contains(&error), "{error} is not in {problems:#?}");
    }

    /// Runs `colm-convert` in the folder that contains this one, which is called `model` there.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_colm-convert"));
        command.current_dir(self.temporary.path()).args(arguments).output().unwrap()
    }

    /// As [`Self::run`], which must succeed. Returns stdout and stderr.
    pub fn convert(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    /// The folder `name` beside this one.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }
}

/// The tensors of a safetensors file.
pub fn tensors(file: &Path) -> Tensors {
    let bytes = fs::read(file).unwrap();
    let tensor = |(name, view): (String, safetensors::tensor::TensorView)| {
        let (dtype, shape) = (view.dtype(), view.shape().to_vec());
        (name, Tensor { dtype, shape, bytes: view.data().to_vec() })
    };
    SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter().map(tensor).collect()
}

/// The tensors of all weight files of `dir` in one of the two layouts.
pub fn model(dir: &Path) -> Tensors {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = names.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("model") && name.ends_with(".safetensors")
    });
    let found: Tensors = files.flat_map(|file| tensors(&file)).collect();
    assert!(!found.is_empty(), "no tensors in {}", dir.display());
    found
}

/// Asserts that both have the same tensors, byte for byte.
pub fn assert_same(found: &Tensors, expected: &Tensors) {
    assert!(found.keys().eq(expected.keys()), "{:?}, {:?}", found.keys(), expected.keys());
    for (name, tensor) in found {
        assert!(*tensor == expected[name], "{name}");
    }
}
