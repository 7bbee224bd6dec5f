//! The tokenizer of a model folder, with the tokens that the other files add to it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::str::FromStr;

use colm_checkpoint::json;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokenizers::{AddedToken, Tokenizer};

use crate::error::{is_there, FolderError};
use crate::growth::{growth, MOST};
use crate::panics::catch;
use crate::special_tokens::{check_length, described, SpecialTokens};

/// The file of the tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
/// The list of tokens that the tokenizer's model does not know, in tokenizer.json.
const ADDED: &str = "added_tokens";
const ADDED_TOKENS: &str = "added_tokens.json";

/// The tokenizer in `folder`, and its special tokens. `config` holds the fields of tokenizer_config.json at
/// `config_path`.
///
/// As in transformers: `truncation` and `padding` are left out, and special tokens that the other files name are
/// added where tokenizer.json does not have them.
pub fn read(
    folder: &Path,
    config: &Map<String, Value>,
    config_path: &Path,
) -> Result<(Tokenizer, SpecialTokens), FolderError> {
    let path = folder.join(TOKENIZER);
    if !is_there(&path) {
        return Err(missing(folder, &path));
    }
    let text = json::read_text(&path)?;
    let has_added_tokens = check_added_tokens(&text, &path)?;
    let mut tokenizer = parse(&text, &path)?;
    let mut special = SpecialTokens::of(config, config_path)?;
    if let Some(padding) = tokenizer.get_padding().filter(|_| !config.contains_key("pad_token")) {
        special.name("pad_token", AddedToken::from(padding.pad_token.as_str(), true));
    }
    let added = match config.get("added_tokens_decoder").filter(|value| !value.is_null()) {
        Some(decoder) => added_tokens_decoder(decoder, config_path)?,
        None if has_added_tokens => legacy_tokens(folder, &mut special)?,
        // Without either list the added tokens are unknown.
        None => {
            let what = "it is missing, and tokenizer_config.json has no `added_tokens_decoder`: expected a \
                        list, if need be []";
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
    try_short_text(&tokenizer, &path)?;
    Ok((tokenizer, special))
}

/// The tokens of `added` and `special` that are not among those `known`, or that have other properties there.
fn missing_tokens(
    mut added: Vec<AddedToken>,
    known: &[AddedToken],
    special: &SpecialTokens,
) -> Vec<AddedToken> {
    // There can be 100,000 of each.
    let known: HashMap<&str, &AddedToken> =
        known.iter().map(|token| (token.content.as_str(), token)).collect();
    added.retain(|token| {
        !known.get(token.content.as_str()).is_some_and(|known| is_same(known, token))
    });
    let mut places: HashMap<String, usize> = HashMap::new();
    for (place, token) in added.iter().enumerate() {
        places.entry(token.content.clone()).or_insert(place);
    }
    for token in special.all() {
        match places.get(&token.content) {
            Some(&place) => added[place].special = true,
            None if known.contains_key(token.content.as_str()) => {}
            None => {
                places.insert(token.content.clone(), added.len());
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
    check_growth(&tokenizer, path)?;
    Ok(tokenizer)
}

/// Refuses a tokenizer that lacks something it uses in each text.
fn try_short_text(tokenizer: &Tokenizer, path: &Path) -> Result<(), FolderError> {
    for (add_special, field) in [(false, "model"), (true, "post_processor")] {
        if let Err(panic) = catch(|| tokenizer.encode_fast("Hello", add_special).map(drop)) {
            let what = format!("the tokenizer fails on a short text: {panic}");
            return Err(FolderError::field(path, field, what));
        }
    }
    Ok(())
}

/// Refuses normalizers and decoders that make long texts of short ones.
fn check_growth(tokenizer: &Tokenizer, path: &Path) -> Result<(), FolderError> {
    // The components' fields are private; their JSON is their public form.
    let normalizer = tokenizer.get_normalizer().map(serde_json::to_value);
    let decoder = tokenizer.get_decoder().map(serde_json::to_value);
    for (field, component) in [("normalizer", normalizer), ("decoder", decoder)] {
        let growth = component.and_then(Result::ok).map_or(1.0, |component| growth(&component));
        if growth > MOST {
            let what =
                format!("it can make a text {growth:.0} times as long: expected at most {MOST}");
            return Err(FolderError::field(path, field, what));
        }
    }
    Ok(())
}

fn missing(folder: &Path, path: &Path) -> FolderError {
    let others = ["tokenizer.model", "tekken.json", "vocab.json"];
    let what = match others.into_iter().find(|name| folder.join(name).exists()) {
        Some(other) => format!(
            "the file is missing, and {other} is not read: expected {TOKENIZER}, which \
             AutoTokenizer.from_pretrained(..).save_pretrained(..) of transformers writes"
        ),
        None => "the file is missing: expected the model's tokenizer".into(),
    };
    FolderError::file(path, what)
}

/// Refuses malformed added tokens. Returns whether there is a list of them.
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

/// The field `added_tokens_decoder`: tokens by their ids, in their order.
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

/// What older files add: special_tokens_map.json to the special tokens, added_tokens.json the tokens returned.
fn legacy_tokens(
    folder: &Path,
    special: &mut SpecialTokens,
) -> Result<Vec<AddedToken>, FolderError> {
    let path = folder.join(SPECIAL_TOKENS_MAP);
    if is_there(&path) {
        special.merge(&json::read::<Map<String, Value>>(&path)?, &path)?;
    }
    let path = folder.join(ADDED_TOKENS);
    if !is_there(&path) {
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
