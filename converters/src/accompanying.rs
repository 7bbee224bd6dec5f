//! The files beside the weights that a conversion keeps as they are.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::CheckpointError;
use crate::regular_file;

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
const CHAT_TEMPLATES: &str = "additional_chat_templates";
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
        let is_ours = NAMES.contains(&name);
        if !is_ours && !BEGINNINGS.iter().any(|begin| name.starts_with(begin)) {
            continue;
        }
        match regular_file::length(&path) {
            Ok(_) => files.push((path.clone(), name.to_owned())),
            Err(source) if is_ours => return Err(CheckpointError::NoFile { path, source }),
            // Pictures of the README, say.
            Err(_) => {}
        }
    }
    files.extend(chat_templates(&dir.join(CHAT_TEMPLATES)));
    files.sort();
    Ok(files)
}

/// The templates in the folder of further ones, if there is one.
fn chat_templates(dir: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let template = |entry: fs::DirEntry| {
        let path = entry.path();
        let name = path.file_name()?.to_str()?.to_owned();
        let is_template = name.ends_with(".jinja") && regular_file::length(&path).is_ok();
        is_template.then(|| (path.clone(), format!("{CHAT_TEMPLATES}/{name}")))
    };
    entries.filter_map(template).collect()
}
