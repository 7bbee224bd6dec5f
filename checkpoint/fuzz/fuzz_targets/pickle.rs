//! Any bytes as pytorch_model.bin, and as the pickle in one.
#![no_main]

mod folder;

use std::io::{Cursor, Write};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

static FOLDER: LazyLock<TempDir> = LazyLock::new(folder::folder);

fn archive(pickle: &[u8]) -> Vec<u8> {
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in [("x/data.pkl", pickle), ("x/data/0", &[0; 256])] {
        archive.start_file(name, stored).expect("an entry");
        archive.write_all(bytes).expect("memory");
    }
    archive.finish().expect("an archive").into_inner()
}

fuzz_target!(|bytes: &[u8]| {
    let archive = archive(bytes);
    let file = if bytes.starts_with(b"PK") { bytes } else { &archive };
    folder::write(&FOLDER, "pytorch_model.bin", file);
    folder::read(&FOLDER);
});
