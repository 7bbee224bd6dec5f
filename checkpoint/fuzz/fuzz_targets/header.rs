//! Any bytes as model.safetensors. Every second run adds the correct length of the header, so that the
//! parser of the header is reached.
#![no_main]

mod folder;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(folder::folder);

fuzz_target!(|input: (bool, &[u8], u8)| {
    let (framed, bytes, data) = input;
    let mut file = Vec::new();
    if framed {
        file.extend((bytes.len() as u64).to_le_bytes());
    }
    file.extend(bytes);
    file.resize(file.len() + usize::from(data), 0);
    folder::write(&FOLDER, "model.safetensors", &file);
    folder::read(&FOLDER);
});
