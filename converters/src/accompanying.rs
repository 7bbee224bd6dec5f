//! The files beside the weights that a conversion keeps as they are.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::CheckpointError;

const NAMES: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
    "chat_template.json",
];
const BEGINNINGS: [&str; 3] = ["chat_template.", "README", "LICENSE"];

/// The tokenizer, generation and chat template files, the README and the licenses in `dir`: path
/// and name of each.
pub(crate) fn accompanying_files(dir: &Path) -> Result<Vec<(PathBuf, String)>, CheckpointError> {
    let unreadable = |source| CheckpointError::Read { path: dir.into(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let kept = NAMES.contains(&name) || BEGINNINGS.iter().any(|begin| name.starts_with(begin));
        if kept && path.is_file() {
            files.push((path.clone(), name.to_owned()));
        }
    }
    files.sort();
    Ok(files)
}
