//! A folder with a small config and the fuzzed file.

use std::fs;

use colm_checkpoint::verify::verify;
use tempfile::TempDir;

pub const CONFIG: &str = r#"{"architectures": ["CoLMForCausalLM"], "model_type": "colm",
    "chains": [1, 1], "vocab_size": 3, "hidden_size": 8, "intermediate_size": 2,
    "num_hidden_layers": 1, "num_attention_heads": 4, "max_position_embeddings": 8,
    "rms_norm_eps": 1e-5}"#;

pub fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(&folder, "config.json", CONFIG.as_bytes());
    folder
}

pub fn write(folder: &TempDir, file: &str, bytes: &[u8]) {
    fs::write(folder.path().join(file), bytes).expect("a temporary file");
}

/// Reads everything in the folder and ignores the problems found.
pub fn read(folder: &TempDir) {
    verify(folder.path(), |_| ());
}
