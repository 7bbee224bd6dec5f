//! The tokens that end an answer.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use super::generation_config::GENERATION_CONFIG;
use crate::error::FolderError;
use crate::tokenizer::SpecialTokens;

const FIELD: &str = "eos_token_id";

/// The ids of the tokens that end an answer of a model with a vocabulary of `vocab_size` tokens.
///
/// These are the `eos_token` of the tokenizer and the ids in `eos_token_id` of generation_config.json,
/// or of config.json if that has none. Ids outside the vocabulary are ignored with a warning. If all
/// are outside, it is an error, because answers would never end.
pub(super) fn eos_tokens(
    folder: &Path,
    tokenizer: &Tokenizer,
    special: &SpecialTokens,
    generation_config: &Map<String, Value>,
    config: &Map<String, Value>,
    vocab_size: usize,
) -> Result<Vec<u32>, FolderError> {
    let named = |fields: &Map<String, Value>| fields.get(FIELD).is_some_and(|id| !id.is_null());
    let (fields, file) = if named(generation_config) {
        (generation_config, GENERATION_CONFIG)
    } else {
        (config, "config.json")
    };
    let mut tokens = Vec::new();
    let mut unknown: Vec<(&str, &str, String)> = Vec::new();
    for id in ids(fields, &folder.join(file))? {
        match u32::try_from(id).ok().filter(|&id| (id as usize) < vocab_size) {
            Some(id) => tokens.push(id),
            None => unknown.push((file, FIELD, id.to_string())),
        }
    }
    if let Some(text) = special.get("eos_token") {
        let id = tokenizer.token_to_id(text);
        match id.filter(|&id| (id as usize) < vocab_size) {
            Some(id) => tokens.push(id),
            None => unknown.push((special.file("eos_token"), "eos_token", format!("{text:?}"))),
        }
    }
    tokens.sort_unstable();
    tokens.dedup();
    for (file, field, value) in unknown {
        let what = format!("{value} is not in the vocabulary of {vocab_size} tokens");
        if tokens.is_empty() {
            return Err(FolderError::field(&folder.join(file), field, what));
        }
        tracing::warn!("{file}: `{field}`: {what}; it is ignored");
    }
    if tokens.is_empty() {
        tracing::warn!(
            "no file of the model names an end token: answers end only at their maximum length"
        );
    }
    Ok(tokens)
}

/// One id or a list of them.
fn ids(fields: &Map<String, Value>, path: &Path) -> Result<Vec<i64>, FolderError> {
    let id = |value: &Value| {
        value.as_i64().ok_or_else(|| {
            let what = format!("{value}: expected the id of a token or a list of ids");
            FolderError::field(path, FIELD, what)
        })
    };
    match fields.get(FIELD) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}
