//! Files of the model that a folder had before. Readers take them together with the new ones, or prefer them.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

/// The files that add to `tokenizer_config.json` or take precedence over it.
const OF_TOKENIZER: [&str; 4] =
    ["chat_template.jinja", "chat_template.json", "special_tokens_map.json", "added_tokens.json"];
/// The folder of chat templates in files of their own, which take precedence too.
const CHAT_TEMPLATES: &str = "additional_chat_templates";

/// Removes the files in `dir` that say anything else about chat template and special tokens than
/// `tokenizer_config.json`.
pub fn remove_stale_tokenizer_files(dir: &Path) -> Result<()> {
    OF_TOKENIZER.iter().try_for_each(|name| remove(&dir.join(name)))?;
    remove_templates(&dir.join(CHAT_TEMPLATES))
}

/// Removes the weight files in `dir` that are not among `written`. Readers refuse a folder that has chain files of
/// another model, and transformers prefers `model.safetensors` to an index.
pub fn remove_stale_weights(dir: &Path, written: &BTreeSet<String>) -> Result<()> {
    for entry in dir.read_dir().with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if is_weight_file(name) && !written.contains(name) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Whether `name` is that of a model's safetensors file: one file, or one of several chains or shards.
fn is_weight_file(name: &str) -> bool {
    let is_number = |part: &str| part.len() == 5 && part.bytes().all(|byte| byte.is_ascii_digit());
    let middle = name.strip_prefix("model").and_then(|rest| rest.strip_suffix(".safetensors"));
    let Some(middle) = middle else {
        return false;
    };
    let numbers = middle.strip_prefix("-chain-").or_else(|| middle.strip_prefix('-'));
    let numbers = numbers.and_then(|numbers| numbers.split_once("-of-"));
    middle.is_empty() || numbers.is_some_and(|(i, count)| is_number(i) && is_number(count))
}

/// Removes the templates in `folder`, which need not exist, and `folder` if it has nothing else.
fn remove_templates(folder: &Path) -> Result<()> {
    // The templates behind a link belong to another model.
    if folder.is_symlink() {
        return remove(folder);
    }
    if !folder.is_dir() {
        return Ok(());
    }
    let mut is_empty = true;
    for entry in folder.read_dir().with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jinja") {
            remove(&path)?;
        } else {
            is_empty = false;
        }
    }
    if is_empty {
        std::fs::remove_dir(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    Ok(())
}

/// Removes a file, or a link but not what it leads to. It need not exist.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| format!("removing {}", path.display())),
    }
}
