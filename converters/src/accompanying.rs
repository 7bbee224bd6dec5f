//! The files beside the weights that a conversion keeps as they are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::any_json::AnyJson;
use crate::error::CheckpointError;
use crate::json_file::{self, JsonError, JsonFileError, MAX_FILE};
use crate::regular_file::{self, kind, NoFile};

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
const CHAT_TEMPLATE: &str = "chat_template.";
/// Of these, folders are left out: pictures of the README, say.
const DOCUMENTS: [&str; 2] = ["README", "LICENSE"];
const CHAT_TEMPLATES: &str = "additional_chat_templates";

/// A tokenizer, generation or chat template file, a README or a license. What is at its path may be no file.
#[derive(Debug)]
pub(crate) struct Accompanying {
    pub path: PathBuf,
    /// Its path within the model folder.
    pub name: String,
}

impl Accompanying {
    /// The length of the file in bytes. Refuses what [`Self::read`] would refuse.
    pub fn length(&self) -> Result<u64, JsonFileError> {
        let length = || {
            let length = regular_file::length(&self.path)?;
            if length > MAX_FILE {
                return Err(JsonError::TooLong { most: MAX_FILE });
            }
            File::open(&self.path).map_err(NoFile::from)?;
            Ok(length)
        };
        length().map_err(|error| error.in_file(&self.path))
    }

    pub fn read(&self) -> Result<Vec<u8>, JsonFileError> {
        json_file::read_bytes(&self.path, MAX_FILE).map_err(|error| error.in_file(&self.path))
    }

    /// Refuses what is no file, and what is not of the form that its name says: JSON, or a template.
    pub fn check(&self) -> Result<(), JsonFileError> {
        let is_document = DOCUMENTS.iter().any(|begin| self.name.starts_with(begin));
        match self.path.extension().and_then(|extension| extension.to_str()) {
            Some("json") if !is_document => json_file::read::<AnyJson>(&self.path).map(drop),
            Some("jinja") if !is_document => json_file::read_text(&self.path).map(drop),
            _ => self.length().map(drop),
        }
    }
}

/// What accompanies the weights in `dir`, sorted; and which folder cannot be looked into.
pub(crate) fn accompanying_files(dir: &Path) -> Vec<Result<Accompanying, CheckpointError>> {
    let is_folder = |name: &str| dir.join(name).is_dir();
    let is_kept = |name: &str| {
        let is_document = DOCUMENTS.iter().any(|begin| name.starts_with(begin));
        let is_ours = NAMES.contains(&name) || name.starts_with(CHAT_TEMPLATE);
        is_ours || is_document && !is_folder(name)
    };
    let mut files: Vec<_> = match names_in(dir) {
        Ok(names) => names.into_iter().filter(|name| is_kept(name)).map(Ok).collect(),
        Err(error) => vec![Err(error)],
    };
    match chat_templates(&dir.join(CHAT_TEMPLATES)) {
        Ok(templates) => files.extend(templates.into_iter().map(Ok)),
        Err(error) => files.push(Err(error)),
    }
    let file = |name: String| Accompanying { path: dir.join(&name), name };
    files.into_iter().map(|name| name.map(file)).collect()
}

/// The templates in the folder of further ones, if there is one.
fn chat_templates(dir: &Path) -> Result<Vec<String>, CheckpointError> {
    if dir.symlink_metadata().is_err() {
        return Ok(Vec::new());
    }
    let mut names = names_in(dir)?;
    names.retain(|name| name.ends_with(".jinja"));
    Ok(names.into_iter().map(|name| format!("{CHAT_TEMPLATES}/{name}")).collect())
}

/// What `dir` holds, sorted.
fn names_in(dir: &Path) -> Result<Vec<String>, CheckpointError> {
    let names = || {
        let metadata = regular_file::metadata(dir)?;
        if !metadata.is_dir() {
            return Err(NoFile::NoFolder(kind(metadata.file_type())));
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // No name of ours is other than UTF-8.
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    };
    names().map_err(|source| CheckpointError::NoFile { path: dir.into(), source })
}
