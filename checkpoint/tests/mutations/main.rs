//! The shipped model with one damaged file, in hundreds of variants. Reading gives an answer or an error that names
//! a file, quickly and without a panic.
//!
//!     COLM_MUTATIONS=2000 cargo test -p colm-checkpoint --test mutations
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use colm_checkpoint::inspect::inspect;
use colm_checkpoint::verify::verify;
use colm_checkpoint::{ChainCount, Checkpoint, ColmConfig, Source};
use colm_testing::damage::damage;

/// The time limit of all ways to read one folder.
const LIMIT: Duration = Duration::from_secs(10);
const JSON_FILES: [&str; 5] = [
    "config.json",
    "config.json",
    "model.safetensors.index.json",
    "generation_config.json",
    "tokenizer_config.json",
];

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-colm-air").canonicalize().unwrap()
}

/// The errors of a folder in all ways to read it.
fn read(dir: &Path) -> Vec<String> {
    let mut said: Vec<_> = verify(dir, None, |_| ()).iter().map(ToString::to_string).collect();
    said.extend(inspect(dir).err().map(|error| error.to_string()));
    said.extend(Source::open(dir).err().map(|error| error.to_string()));
    match ColmConfig::read(&dir.join("config.json")) {
        Ok(config) => {
            said.extend([ChainCount::ONE, config.all_chains()].into_iter().filter_map(|k| {
                let opened = Checkpoint::open(dir, &config, k);
                opened
                    .and_then(|checkpoint| checkpoint.check_zero_submatrices())
                    .err()
                    .map(|e| e.to_string())
            }))
        }
        Err(error) => said.push(error.to_string()),
    }
    said
}

#[test]
fn a_damaged_model_is_read_or_gives_an_error_with_a_file_name() {
    let count = std::env::var("COLM_MUTATIONS").map_or(300, |count| count.parse().unwrap());
    let mut error = 0;
    for seed in 0..count {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_path_buf();
        let what = format!("mutation {seed}, {}", damage(&model(), &JSON_FILES, &dir, seed));
        let (tell, told) = channel();
        // A panic closes the channel.
        thread::spawn(move || tell.send(read(&dir)));
        let said = told.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("{what}: {error}"));
        let dir = folder.path().to_string_lossy();
        for line in &said {
            assert!(line.contains(&*dir), "{what}: no file is named in: {line}");
            assert!(line.len() < 5000, "{what}: {} bytes", line.len());
        }
        error += u64::from(!said.is_empty());
    }
    // The others are valid: changes of files that are not needed, or of values that may vary.
    assert!(error > count / 2, "only {error} of {count} are error");
}

/// Without damage there are no errors.
#[test]
fn the_model_itself_is_valid() {
    assert_eq!(read(&model()), [""; 0]);
}
