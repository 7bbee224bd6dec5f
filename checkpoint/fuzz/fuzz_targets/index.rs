//! Any bytes as model.safetensors.index.json.
#![no_main]

mod folder;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = folder::folder();
    folder::write(&folder, "model.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    folder::write(&FOLDER, "model.safetensors.index.json", bytes);
    folder::read(&FOLDER);
});
