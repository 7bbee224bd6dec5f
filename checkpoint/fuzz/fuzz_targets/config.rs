//! Any bytes as config.json, without weights and with an empty weight file.
#![no_main]

mod folder;

use std::sync::LazyLock;

use colm_checkpoint::inspect::inspect;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static CONFIG_ALONE: LazyLock<TempDir> = LazyLock::new(folder::folder);
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = folder::folder();
    folder::write(&folder, "model.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    folder::write(&CONFIG_ALONE, "config.json", bytes);
    // Valid or not, sizes must be computed without overflow.
    let _ = inspect(CONFIG_ALONE.path());
    folder::write(&FOLDER, "config.json", bytes);
    folder::read(&FOLDER);
});
