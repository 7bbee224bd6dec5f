//! Random damage to one file of the shipped model: `colm run` answers, or fails with an error that names the file,
//! without a panic and within limits of time and memory.
//!
//!     COLM_MUTATIONS=2000 cargo test --test it mutations

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use colm_testing::damage::damage;
use colm_testing::process_memory::peak_mib_of;

const JSON_FILES: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

const TIME: Duration = Duration::from_secs(10);
const MEMORY: u64 = 2 << 30;

#[test]
fn a_damaged_model_runs_or_fails_with_the_file_name() {
    let count = std::env::var("COLM_MUTATIONS").map_or(400, |count| count.parse().unwrap());
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-colm-air");
    let mut refused = 0;
    for seed in 0..count {
        let folder = tempfile::tempdir().unwrap();
        let what = damage(&model, &JSON_FILES, folder.path(), seed);
        let what = format!("mutation {seed}, {what}");
        let (code, said) = run(folder.path(), &what);
        match code {
            Some(0) => {}
            Some(1) => {
                // If two files contradict each other, the error may name either.
                let named = said.contains(".json") || said.contains(".safetensors");
                // The damaged context length may be shorter than the prompt.
                let named = named || said.contains("what the context and the KV cache can hold");
                assert!(named, "{what}: the error names no file: {said}");
                refused += 1;
            }
            code => panic!("{what}: exit status {code:?}: {said}"),
        }
        assert!(!said.contains("panicked"), "{what}: {said}");
        let start: String = said.chars().take(1000).collect();
        assert!(said.len() < 10_000, "{what}: {} bytes on stderr: {start}", said.len());
    }
    assert!(refused > count / 3, "only {refused} of {count} fail");
}

/// The exit status of `colm run` with the model in `folder`, and its stderr.
fn run(folder: &Path, what: &str) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_colm"))
        .args(["run", "--max-tokens", "4", "-i", "hello", "-m"])
        .arg(folder)
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let said = std::thread::spawn(move || {
        let mut said = Vec::new();
        stderr.read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    });
    let since = Instant::now();
    let status = loop {
        let memory = most_memory(&child);
        if memory > MEMORY || since.elapsed() > TIME {
            child.kill().unwrap();
            panic!("{what}: {memory} bytes in {:?}", since.elapsed());
        }
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    (status.code(), said.join().unwrap())
}

/// Peak memory of the process so far in bytes; 0 where the system does not report it.
fn most_memory(child: &Child) -> u64 {
    peak_mib_of(child.id()).map_or(0, |mib| (mib * 1024. * 1024.) as u64)
}
