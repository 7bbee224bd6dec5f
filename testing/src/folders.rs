//! Folders of this repository that tests read.

use std::fs;
use std::path::{Path, PathBuf};

use colm_checkpoint::convert::to_chain_layout;
use colm_checkpoint::Source;
use tempfile::TempDir;

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The folder of the golden cases, which `tests/golden/make_golden.py` computes.
pub fn golden() -> PathBuf {
    repository().join("tests/golden")
}

/// The folder of a model in `models/`.
pub fn shipped(name: &str) -> String {
    repository().join("models").join(name).to_string_lossy().into_owned()
}

/// A copy of a golden case together with a tokenizer, so that the engine can load it. A case in the paper's own
/// conventions is converted to the chain layout.
pub fn model_folder(case: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    if case.join("params.json").exists() {
        let source = Source::open(case).unwrap();
        let plan = to_chain_layout(&source).unwrap();
        plan.write(&source, folder.path(), true, |_| ()).unwrap();
        copy_tokenizer(folder.path());
        return folder;
    }
    copy_tokenizer(folder.path());
    for entry in fs::read_dir(case).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

fn copy_tokenizer(folder: &Path) {
    for tokenizer in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(golden().join(tokenizer), folder.join(tokenizer)).unwrap();
    }
}
