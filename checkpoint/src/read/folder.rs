//! Checks that a path is a model folder, and describes what it is otherwise.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::format::{is_state_dict, CheckpointError};
use crate::paper::PARAMS_FILE;
use crate::regular_file::{self, kind, FileError};
use crate::text::abbreviate;

/// How many files of a folder a message names.
const MAX_NAMED: usize = 3;

/// Checks that `path` leads to a folder with a config.json.
///
/// # Errors
/// If it does not. The error says what the path leads to, for example a GGUF file.
pub fn check_model_folder(path: &Path) -> Result<(), CheckpointError> {
    check_folder(path)?;
    let config = path.join("config.json");
    match regular_file::length(&config) {
        Ok(_) => Ok(()),
        Err(FileError::Missing) if is_paper_folder(path)? => {
            Err(CheckpointError::PaperConventions { dir: path.into() })
        }
        Err(FileError::Missing) => Err(no_config(path)),
        Err(source) => Err(CheckpointError::File { path: config, source }),
    }
}

/// Whether folder `path` has params.json and no config.json, and so is in the paper's own conventions.
pub(crate) fn is_paper_folder(path: &Path) -> Result<bool, CheckpointError> {
    check_folder(path)?;
    let is_there = |file: &str| path.join(file).symlink_metadata().is_ok();
    Ok(is_there(PARAMS_FILE) && !is_there("config.json"))
}

/// Checks that `path` leads to a folder.
pub(crate) fn check_folder(path: &Path) -> Result<(), CheckpointError> {
    let what = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(metadata) if metadata.is_file() => format!("is {}", kind_of_file(path)),
        Ok(metadata) => format!("is {}", kind(metadata.file_type())),
        Err(error) if error.kind() == ErrorKind::NotFound => "does not exist".into(),
        Err(source) => return Err(CheckpointError::Read { path: path.into(), source }),
    };
    Err(CheckpointError::NotAFolder { path: path.into(), what })
}

/// The names of the files in `dir`, sorted. Names that are not UTF-8 are left out: no file of a checkpoint has one.
pub(super) fn names_in(dir: &Path) -> Result<Vec<String>, CheckpointError> {
    check_folder(dir)?;
    let unreadable = |source| CheckpointError::Read { path: dir.into(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        names.extend(entry.map_err(unreadable)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// The error for folder `dir`, which has no config.json.
fn no_config(dir: &Path) -> CheckpointError {
    let names = match names_in(dir) {
        Ok(names) => names,
        Err(error) => return error,
    };
    let listed = |names: &[String]| abbreviate(&names.join(", ")).into_owned();
    let holds = match (other_kind(dir, &names), names.as_slice()) {
        (Some((name, kind)), _) => format!("holds {}, {kind}", abbreviate(name)),
        (None, []) => "is empty".into(),
        (None, names) if names.len() <= MAX_NAMED => format!("holds {}", listed(names)),
        (None, names) => {
            format!("holds {} and {} more", listed(&names[..MAX_NAMED]), names.len() - MAX_NAMED)
        }
    };
    CheckpointError::NoConfig { dir: dir.into(), holds }
}

/// The error for folder `dir`, which has a config.json and the files `names`, but no weights.
pub(super) fn no_weights(dir: &Path, names: &[String]) -> CheckpointError {
    let found = match other_kind(dir, names) {
        Some((name, kind)) => format!("; {} is {kind}, which is not read", abbreviate(name)),
        None => String::new(),
    };
    CheckpointError::NoWeights { dir: dir.into(), found }
}

/// A file that identifies the folder as another kind of model, and what that file is.
fn other_kind<'a>(dir: &Path, names: &'a [String]) -> Option<(&'a str, &'static str)> {
    let kind = |name: &str| match name {
        "adapter_config.json" => Some("the config of an adapter to a model"),
        PARAMS_FILE => Some("the config of a model in Meta's own format"),
        "model_index.json" => Some("the index of a diffusion model"),
        _ if is_gguf(&dir.join(name)) => Some(GGUF),
        _ => None,
    };
    names.iter().find_map(|name| Some((name.as_str(), kind(name)?)))
}

const GGUF: &str = "a GGUF file of llama.cpp";

fn kind_of_file(path: &Path) -> &'static str {
    if is_gguf(path) {
        GGUF
    } else if path.extension().is_some_and(|extension| extension == "safetensors") {
        "a single safetensors file"
    } else if is_state_dict(path) {
        "a single PyTorch file"
    } else {
        "a file"
    }
}

/// Whether the file is GGUF, by its name or its first bytes.
fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let mut has_magic = || {
        path.is_file()
            && File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
            && magic == *b"GGUF"
    };
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) || has_magic()
}
