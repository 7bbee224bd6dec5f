//! A temporary model folder.

use std::fs;
use std::path::{Path, PathBuf};

use colm_checkpoint::verify::verify;
use colm_checkpoint::Dtype;
use serde_json::Value;

use colm_testing::small_checkpoint::{config_json, parse, write_chains, write_dense};

pub struct Folder {
    _temporary: tempfile::TempDir,
    pub dir: PathBuf,
}

impl Folder {
    pub fn empty() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("model");
        fs::create_dir(&dir).unwrap();
        Self { _temporary: temporary, dir }
    }

    pub fn with_config(json: &Value) -> Self {
        let folder = Self::empty();
        folder.write("config.json", json.to_string());
        folder
    }

    /// A complete checkpoint in the dense layout, in one file.
    pub fn dense() -> Self {
        Self::filled(|dir| write_dense(dir, &parse(config_json()), Dtype::F32))
    }

    /// A complete checkpoint of three chains in the chain layout.
    pub fn chains() -> Self {
        Self::filled(|dir| write_chains(dir, &parse(config_json()), Dtype::F32))
    }

    pub fn filled(write: impl FnOnce(&Path)) -> Self {
        let folder = Self::empty();
        fs::remove_dir(&folder.dir).unwrap();
        write(&folder.dir);
        folder
    }

    /// A copy of a folder of test data.
    pub fn copied(from: &str) -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(from);
        let folder = Self::empty();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.dir.join(path.file_name().unwrap())).unwrap();
        }
        folder
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    pub fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(file), bytes).unwrap();
    }

    /// The messages of all its problems.
    pub fn problems(&self) -> Vec<String> {
        verify(&self.dir, None, |_| ()).iter().map(ToString::to_string).collect()
    }

    /// Asserts that it has one problem, whose message contains all `words`.
    pub fn one_problem(&self, words: &[&str]) {
        let problems = self.problems();
        let [problem] = problems.as_slice() else { panic!("{problems:#?}") };
        for word in words {
            assert!(problem.contains(word), "no {word:?} in: {problem}");
        }
    }
}
