//! The files beside the weights: tokenizer, chat template, generation config, documents. Conversions copy them
//! unchanged. Beside other weights, the README has another name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::format::CheckpointError;
use crate::json::{self, AnyValue, JsonError, JsonFileError, MAX_FILE};
use crate::regular_file::{self, kind, FileError};

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
/// The beginning of the name of the model card.
const README: &str = "README";
/// The beginnings of the names of documents. Folders with such names, for example of pictures, are left out.
const DOCUMENTS: [&str; 3] = [README, "LICENSE", "NOTICE"];
/// Before the name of a README of another model, from which the weights were made.
const OF_SOURCE: &str = "SOURCE_";
const CHAT_TEMPLATES: &str = "additional_chat_templates";

/// The path of a side file. It may lead to something other than a file.
#[derive(Debug)]
pub(crate) struct SideFile {
    pub path: PathBuf,
    /// The path relative to the model folder.
    pub name: String,
}

impl SideFile {
    /// The length of the file in bytes. Fails where [`Self::read`] would fail.
    pub fn length(&self) -> Result<u64, JsonFileError> {
        let length = || {
            let length = regular_file::length(&self.path)?;
            if length > MAX_FILE {
                return Err(JsonError::TooLong { most: MAX_FILE });
            }
            File::open(&self.path).map_err(FileError::from)?;
            Ok(length)
        };
        length().map_err(|error| error.in_file(&self.path))
    }

    pub fn read(&self) -> Result<Vec<u8>, JsonFileError> {
        json::read_bytes(&self.path, MAX_FILE).map_err(|error| error.in_file(&self.path))
    }

    /// Checks that the file can be read, and that a `.json` file is JSON and a `.jinja` file text.
    pub fn check(&self) -> Result<(), JsonFileError> {
        let is_document = is_document(&self.name);
        match self.path.extension().and_then(|extension| extension.to_str()) {
            Some("json") if !is_document => json::read::<AnyValue>(&self.path).map(drop),
            Some("jinja") if !is_document => json::read_text(&self.path).map(drop),
            _ => self.length().map(drop),
        }
    }

    /// The name beside weights that differ from those that the README describes: `SOURCE_README.md` in place of
    /// `README.md`, so that its authors are still named. A file that has that name already gets the prefix once more.
    pub fn name_beside_other_weights(&self) -> String {
        let plain = without_prefix(&self.name);
        if plain.starts_with(README) && self.path.with_file_name(plain).is_file() {
            format!("{OF_SOURCE}{}", self.name)
        } else {
            self.name.clone()
        }
    }
}

fn is_document(name: &str) -> bool {
    DOCUMENTS.iter().any(|begin| without_prefix(name).starts_with(begin))
}

fn without_prefix(name: &str) -> &str {
    name.trim_start_matches(OF_SOURCE)
}

/// The side files of folder `dir`, sorted. An error stands for a folder that cannot be listed.
pub(crate) fn side_files(dir: &Path) -> Vec<Result<SideFile, CheckpointError>> {
    let is_folder = |name: &str| dir.join(name).is_dir();
    let is_side_file = |name: &str| {
        let is_known = NAMES.contains(&name) || name.starts_with(CHAT_TEMPLATE);
        is_known || is_document(name) && !is_folder(name)
    };
    let mut files: Vec<_> = match names_in(dir) {
        Ok(names) => names.into_iter().filter(|name| is_side_file(name)).map(Ok).collect(),
        Err(error) => vec![Err(error)],
    };
    match chat_templates(&dir.join(CHAT_TEMPLATES)) {
        Ok(templates) => files.extend(templates.into_iter().map(Ok)),
        Err(error) => files.push(Err(error)),
    }
    let file = |name: String| SideFile { path: dir.join(&name), name };
    files.into_iter().map(|name| name.map(file)).collect()
}

/// The templates in the folder of additional chat templates, if it exists.
fn chat_templates(dir: &Path) -> Result<Vec<String>, CheckpointError> {
    if dir.symlink_metadata().is_err() {
        return Ok(Vec::new());
    }
    let mut names = names_in(dir)?;
    names.retain(|name| name.ends_with(".jinja"));
    Ok(names.into_iter().map(|name| format!("{CHAT_TEMPLATES}/{name}")).collect())
}

/// The names of the files in `dir`, sorted. Names that are not UTF-8 are left out.
fn names_in(dir: &Path) -> Result<Vec<String>, CheckpointError> {
    let names = || {
        let metadata = regular_file::metadata(dir)?;
        if !metadata.is_dir() {
            return Err(FileError::NotFolder(kind(metadata.file_type())));
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    };
    names().map_err(|source| CheckpointError::File { path: dir.into(), source })
}
