//! Reading a tokenizer and the tokens that other files add to it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::str::FromStr;

use colm_checkpoint::json;
use colm_checkpoint::panics::catch;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokenizers::{AddedToken, Tokenizer};

use super::expansion::{expansion, MAX_EXPANSION};
use super::special_tokens::{check_length, described, SpecialTokens};
use crate::error::{exists, FolderError};

/// The name of the file.
pub const TOKENIZER: &str = "tokenizer.json";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
/// The field of tokenizer.json that lists the tokens outside the tokenizer's model.
const ADDED: &str = "added_tokens";
const ADDED_TOKENS: &str = "added_tokens.json";

/// The tokenizer in `folder`, and its special tokens. `config` are the fields of tokenizer_config.json,
/// the file `config_path`.
///
/// As in transformers, `truncation` and `padding` are ignored, and special tokens that other files name
/// are added if tokenizer.json does not have them.
pub fn read(
    folder: &Path,
    config: &Map<String, Value>,
    config_path: &Path,
) -> Result<(Tokenizer, SpecialTokens), FolderError> {
    let path = folder.join(TOKENIZER);
    if !exists(&path) {
        return Err(missing(folder, &path));
    }
    let text = json::read_text(&path)?;
    let has_added_tokens = check_added_tokens(&text, &path)?;
    let mut tokenizer = parse(&text, &path)?;
    let mut special = SpecialTokens::parse(config, config_path)?;
    if let Some(padding) = tokenizer.get_padding().filter(|_| !config.contains_key("pad_token")) {
        special.name("pad_token", AddedToken::from(padding.pad_token.as_str(), true));
    }
    let added = match config.get("added_tokens_decoder").filter(|value| !value.is_null()) {
        Some(decoder) => added_tokens_decoder(decoder, config_path)?,
        None if has_added_tokens => legacy_tokens(folder, &mut special)?,
        // Without either list the added tokens are unknown.
        None => {
            let what = "it is missing, and tokenizer_config.json has no `added_tokens_decoder`: \
                        expected a list, which may be empty";
            return Err(FolderError::field(&path, ADDED, what));
        }
    };
    let known: Vec<AddedToken> = tokenizer.get_added_tokens_decoder().into_values().collect();
    special.describe(&[added.as_slice(), known.as_slice()].concat());
    tokenizer.add_tokens(&missing_tokens(added, &known, &special));
    let split = config.get("split_special_tokens").and_then(Value::as_bool);
    tokenizer.set_encode_special_tokens(split.unwrap_or(false));
    tokenizer.with_padding(None);
    let untruncated = tokenizer.with_truncation(None).map(drop);
    untruncated.map_err(|error| FolderError::file(&path, error.to_string()))?;
    encode_short_text(&tokenizer, &path)?;
    Ok((tokenizer, special))
}

/// The tokens of `added` and `special` that are not in `known`, or have other properties there.
fn missing_tokens(
    mut added: Vec<AddedToken>,
    known: &[AddedToken],
    special: &SpecialTokens,
) -> Vec<AddedToken> {
    // Each list can have 100,000 entries, so they are compared with maps.
    let known: HashMap<&str, &AddedToken> =
        known.iter().map(|token| (token.content.as_str(), token)).collect();
    added.retain(|token| {
        !known.get(token.content.as_str()).is_some_and(|known| is_same(known, token))
    });
    let mut positions: HashMap<String, usize> = HashMap::new();
    for (position, token) in added.iter().enumerate() {
        positions.entry(token.content.clone()).or_insert(position);
    }
    for token in special.all() {
        match positions.get(&token.content) {
            Some(&position) => added[position].special = true,
            None if known.contains_key(token.content.as_str()) => {}
            None => {
                positions.insert(token.content.clone(), added.len());
                added.push(token.clone());
            }
        }
    }
    added
}

fn parse(text: &str, path: &Path) -> Result<Tokenizer, FolderError> {
    // The library panics on some files.
    let parsed = catch(|| Tokenizer::from_str(text).map_err(|error| error.to_string()));
    let parsed = parsed.and_then(|parsed| parsed);
    let tokenizer = parsed.map_err(|what| {
        FolderError::file(path, format!("expected a tokenizer of the tokenizers library: {what}"))
    })?;
    let vocabulary = tokenizer.get_vocab(true);
    if vocabulary.is_empty() {
        return Err(FolderError::field(path, "model.vocab", "it is empty: expected tokens"));
    }
    for token in vocabulary.keys() {
        check_length(token, "model.vocab", path)?;
    }
    check_expansion(&tokenizer, path)?;
    Ok(tokenizer)
}

/// Encodes a short text, which fails if the tokenizer lacks something that it needs for every text.
fn encode_short_text(tokenizer: &Tokenizer, path: &Path) -> Result<(), FolderError> {
    for (add_special, field) in [(false, "model"), (true, "post_processor")] {
        if let Err(panic) = catch(|| tokenizer.encode_fast("Hello", add_special).map(drop)) {
            let what = format!("the tokenizer fails on a short text: {panic}");
            return Err(FolderError::field(path, field, what));
        }
    }
    Ok(())
}

/// Checks that the normalizer and the decoder do not lengthen texts too much.
fn check_expansion(tokenizer: &Tokenizer, path: &Path) -> Result<(), FolderError> {
    // The fields of components are private, so their JSON is used.
    let normalizer = tokenizer.get_normalizer().map(serde_json::to_value);
    let decoder = tokenizer.get_decoder().map(serde_json::to_value);
    for (field, component) in [("normalizer", normalizer), ("decoder", decoder)] {
        let factor = component.and_then(Result::ok).map_or(1.0, |component| expansion(&component));
        if factor > MAX_EXPANSION {
            let what = format!(
                "it can make a text {factor:.0} times as long: expected at most {MAX_EXPANSION}"
            );
            return Err(FolderError::field(path, field, what));
        }
    }
    Ok(())
}

fn missing(folder: &Path, path: &Path) -> FolderError {
    let unsupported = ["tokenizer.model", "tekken.json", "vocab.json"];
    let what = match unsupported.into_iter().find(|name| folder.join(name).exists()) {
        Some(file) => format!(
            "the file is missing, and {file} is not read: expected {TOKENIZER}, which \
             AutoTokenizer.from_pretrained(..).save_pretrained(..) of transformers writes"
        ),
        None => "the file is missing: expected the model's tokenizer".into(),
    };
    FolderError::file(path, what)
}

/// Checks the added tokens. Returns whether there is a list of them.
fn check_added_tokens(text: &str, path: &Path) -> Result<bool, FolderError> {
    let fields: HashMap<String, Box<RawValue>> = json::parse(text, path)?;
    let written = fields.get(ADDED).map_or("null", |value| value.get());
    let added_tokens: Option<Vec<Value>> = serde_json::from_str(written)
        .map_err(|error| FolderError::field(path, ADDED, format!("expected a list: {error}")))?;
    for (index, token) in added_tokens.iter().flatten().enumerate() {
        described(token, &format!("{ADDED}[{index}]"), path)?;
    }
    Ok(added_tokens.is_some())
}

/// The tokens of the field `added_tokens_decoder`, in the order of their ids.
fn added_tokens_decoder(value: &Value, path: &Path) -> Result<Vec<AddedToken>, FolderError> {
    const FIELD: &str = "added_tokens_decoder";
    let Value::Object(tokens) = value else {
        return Err(FolderError::field(path, FIELD, "expected an object of ids and tokens"));
    };
    let mut found = Vec::with_capacity(tokens.len());
    for (id, token) in tokens {
        let field = format!("{FIELD}.{id}");
        let id: u32 = id.parse().map_err(|_| {
            FolderError::field(path, &field, "expected the id of a token as the name")
        })?;
        found.push((id, described(token, &field, path)?));
    }
    found.sort_by_key(|(id, _)| *id);
    Ok(found.into_iter().map(|(_, token)| token).collect())
}

/// Reads the older files: adds the tokens of special_tokens_map.json to `special`, and returns those of
/// added_tokens.json.
fn legacy_tokens(
    folder: &Path,
    special: &mut SpecialTokens,
) -> Result<Vec<AddedToken>, FolderError> {
    let path = folder.join(SPECIAL_TOKENS_MAP);
    if exists(&path) {
        special.merge(&json::read::<Map<String, Value>>(&path)?, &path)?;
    }
    let path = folder.join(ADDED_TOKENS);
    if !exists(&path) {
        return Ok(Vec::new());
    }
    let mut ids: Vec<(String, u32)> =
        json::read::<BTreeMap<String, u32>>(&path)?.into_iter().collect();
    for (text, _) in &ids {
        check_length(text, text, &path)?;
    }
    ids.sort_by_key(|(_, id)| *id);
    let special: HashSet<&str> = special.all().map(|token| token.content.as_str()).collect();
    let token =
        |(text, _): (String, u32)| AddedToken::from(text.as_str(), special.contains(text.as_str()));
    Ok(ids.into_iter().map(token).collect())
}

fn is_same(a: &AddedToken, b: &AddedToken) -> bool {
    let flags = |token: &AddedToken| {
        (token.single_word, token.lstrip, token.rstrip, token.normalized, token.special)
    };
    a.content == b.content && flags(a) == flags(b)
}
