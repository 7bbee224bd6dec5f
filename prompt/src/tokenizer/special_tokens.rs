//! The special tokens that the files of a tokenizer name.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::FolderError;

/// The names that every tokenizer knows, in the order of transformers.
const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The field with further named tokens, an object.
const MODEL_SPECIFIC: &str = "model_specific_special_tokens";

/// The longest token, in bytes.
const MAX_LENGTH: usize = 4096;

/// The special tokens of a tokenizer: those with a name, such as `bos_token`, and those without.
#[derive(Clone, Debug, Default)]
pub struct SpecialTokens {
    named: Vec<(String, AddedToken)>,
    /// The file that names each token, by name.
    files: BTreeMap<String, String>,
    unnamed: Vec<AddedToken>,
}

impl SpecialTokens {
    /// The tokens in the fields of `file`: every field whose name ends with `_token`, and the lists
    /// `additional_special_tokens` and `extra_special_tokens`.
    pub(super) fn parse(fields: &Map<String, Value>, file: &Path) -> Result<Self, FolderError> {
        let mut tokens = Self::default();
        tokens.merge(fields, file)?;
        Ok(tokens)
    }

    /// Adds the tokens in the fields of another file, which take precedence.
    pub(super) fn merge(
        &mut self,
        fields: &Map<String, Value>,
        file: &Path,
    ) -> Result<(), FolderError> {
        let file_name = file.file_name().unwrap_or_default().to_string_lossy();
        for name in NAMES {
            match fields.get(name) {
                None => continue,
                Some(Value::Null) => self.named.retain(|(known, _)| known != name),
                Some(value) => self.name(name, named(value, name, file)?),
            }
            self.files.insert(name.into(), file_name.to_string());
        }
        let mut model_specific = false;
        for (name, value) in fields {
            let own = name.ends_with("_token") && !NAMES.contains(&name.as_str());
            // Booleans such as `add_bos_token` are not tokens.
            if own && (value.is_string() || value.is_object()) {
                self.name(name, named(value, name, file)?);
                model_specific = true;
            }
        }
        // The newer name takes precedence.
        let lists = ["extra_special_tokens", "additional_special_tokens"];
        let empty = |value: &&Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        let found = lists.iter().find_map(|field| {
            fields.get(*field).filter(|value| !empty(value)).map(|value| (*field, value))
        });
        match found {
            None => {}
            Some((field, Value::Array(items))) => {
                for (index, item) in items.iter().enumerate() {
                    self.unnamed.push(named(item, &format!("{field}[{index}]"), file)?);
                }
            }
            Some((field, Value::Object(items))) => {
                self.name_all(items, field, file)?;
                model_specific = true;
            }
            Some((field, _)) => {
                return Err(FolderError::field(file, field, "expected a list of tokens"));
            }
        }
        match fields.get(MODEL_SPECIFIC).filter(|value| !value.is_null()) {
            // Tokens named in other fields replace it.
            Some(_) if model_specific => Ok(()),
            Some(Value::Object(items)) => self.name_all(items, MODEL_SPECIFIC, file),
            Some(_) => {
                let what = "expected an object of names and tokens";
                Err(FolderError::field(file, MODEL_SPECIFIC, what))
            }
            None => Ok(()),
        }
    }

    /// Adds the tokens in the object `field`, by name.
    fn name_all(
        &mut self,
        items: &Map<String, Value>,
        field: &str,
        file: &Path,
    ) -> Result<(), FolderError> {
        for (name, value) in items {
            self.name(name, named(value, &format!("{field}.{name}"), file)?);
        }
        Ok(())
    }

    /// Gives `token` the name `name`.
    pub(super) fn name(&mut self, name: &str, token: AddedToken) {
        match self.named.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = token,
            None => self.named.push((name.to_string(), token)),
        }
    }

    /// Sets the properties of the tokens that `described` has as well.
    pub(super) fn describe(&mut self, described: &[AddedToken]) {
        for (name, token) in &mut self.named {
            let known = described.iter().find(|known| known.content == token.content);
            if let Some(known) = known.filter(|_| NAMES.contains(&name.as_str())) {
                *token = known.clone().special(true);
            }
        }
    }

    /// The text of the token `name`, such as `bos_token`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.named.iter().find(|(known, _)| known == name);
        found.map(|(_, token)| token.content.as_str())
    }

    /// The file that names the token `name`.
    pub(crate) fn file(&self, name: &str) -> &str {
        self.files.get(name).map_or("tokenizer_config.json", String::as_str)
    }

    /// All tokens, named ones first.
    pub fn all(&self) -> impl Iterator<Item = &AddedToken> {
        self.named.iter().map(|(_, token)| token).chain(&self.unnamed)
    }

    /// The texts of the named tokens by name, as chat templates see them.
    pub fn texts(&self) -> BTreeMap<String, String> {
        let text = |(name, token): &(String, AddedToken)| (name.clone(), token.content.clone());
        self.named.iter().map(text).collect()
    }
}

/// The special token in the field `field`: a text, or an object that describes it.
fn named(value: &Value, field: &str, file: &Path) -> Result<AddedToken, FolderError> {
    match value {
        Value::String(text) => {
            check_length(text, field, file)?;
            Ok(AddedToken::from(text.as_str(), true))
        }
        value => Ok(described(value, field, file)?.special(true)),
    }
}

/// Checks the length of a token. The tokenizers library takes minutes for tokens of hundreds of kilobytes.
pub(super) fn check_length(text: &str, field: &str, file: &Path) -> Result<(), FolderError> {
    if text.len() > MAX_LENGTH {
        let what = format!("a token of {} bytes: expected at most {MAX_LENGTH}", text.len());
        return Err(FolderError::field(file, field, what));
    }
    Ok(())
}

/// A token with its properties, as transformers writes it.
pub(super) fn described(
    value: &Value,
    field: &str,
    file: &Path,
) -> Result<AddedToken, FolderError> {
    #[derive(Deserialize)]
    #[serde(expecting = "an object with `content`")]
    struct Described {
        content: String,
        #[serde(default)]
        single_word: bool,
        #[serde(default)]
        lstrip: bool,
        #[serde(default)]
        rstrip: bool,
        normalized: Option<bool>,
        #[serde(default)]
        special: bool,
    }
    let token = Described::deserialize(value).map_err(|error| {
        let what = format!("expected a token, as a text or an object with its `content`: {error}");
        FolderError::field(file, field, what)
    })?;
    check_length(&token.content, field, file)?;
    Ok(AddedToken::from(token.content, token.special)
        .single_word(token.single_word)
        .lstrip(token.lstrip)
        .rstrip(token.rstrip)
        .normalized(token.normalized.unwrap_or(!token.special)))
}
