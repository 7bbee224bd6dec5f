//! Describes paths that are not model folders.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::error::CheckpointError;
use crate::layout::names_in;
use crate::regular_file::{self, kind, NoFile};
use crate::shortened::shortened;
use crate::weight_file::is_state_dict;

/// How many files of a folder are named in a message.
const NAMED: usize = 3;

/// Refuses what is no folder of a model, by what it is: a file, a folder without config.json, or with a FIFO in its
/// place.
pub fn check_model_folder(path: &Path) -> Result<(), CheckpointError> {
    check_folder(path)?;
    let config = path.join("config.json");
    match regular_file::length(&config) {
        Ok(_) => Ok(()),
        Err(NoFile::Missing) => Err(no_config(path)),
        Err(source) => Err(CheckpointError::NoFile { path: config, source }),
    }
}

/// Refuses what is no folder, by what it is.
pub(crate) fn check_folder(path: &Path) -> Result<(), CheckpointError> {
    let what = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(metadata) if metadata.is_file() => format!("is {}", kind_of_file(path)),
        Ok(metadata) => format!("is {}", kind(metadata.file_type())),
        Err(error) if error.kind() == ErrorKind::NotFound => "does not exist".into(),
        Err(source) => return Err(CheckpointError::Read { path: path.into(), source }),
    };
    Err(CheckpointError::NoFolder { path: path.into(), what })
}

/// The error of a folder `dir` without config.json.
fn no_config(dir: &Path) -> CheckpointError {
    let names = match names_in(dir) {
        Ok(names) => names,
        Err(error) => return error,
    };
    let listed = |names: &[String]| shortened(&names.join(", ")).into_owned();
    let holds = match (other_model(dir, &names), names.as_slice()) {
        (Some((name, kind)), _) => format!("holds {}, {kind}", shortened(name)),
        (None, []) => "is empty".into(),
        (None, names) if names.len() <= NAMED => format!("holds {}", listed(names)),
        (None, names) => {
            format!("holds {} and {} more", listed(&names[..NAMED]), names.len() - NAMED)
        }
    };
    CheckpointError::NoConfig { dir: dir.into(), holds }
}

/// The error of a folder `dir` with config.json and the files `names`, none of which is one of weights.
pub(crate) fn no_weights(dir: &Path, names: &[String]) -> CheckpointError {
    let found = match other_model(dir, names) {
        Some((name, kind)) => format!("; {} is {kind}, which is not read", shortened(name)),
        None => String::new(),
    };
    CheckpointError::NoWeights { dir: dir.into(), found }
}

/// A file of a folder by which it is of another kind, and that kind.
fn other_model<'a>(dir: &Path, names: &'a [String]) -> Option<(&'a str, &'static str)> {
    let kind = |name: &str| match name {
        "adapter_config.json" => Some("the config of an adapter to a model"),
        "params.json" => Some("the config of a model in Meta's own format"),
        "model_index.json" => Some("the index of a diffusion model"),
        _ if is_gguf(&dir.join(name)) => Some(GGUF),
        _ => None,
    };
    names.iter().find_map(|name| Some((name.as_str(), kind(name)?)))
}

const GGUF: &str = "a GGUF file of llama.cpp";

fn kind_of_file(path: &Path) -> &'static str {
    if is_gguf(path) {
        return GGUF;
    }
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        return "a single safetensors file";
    }
    match is_state_dict(path) {
        true => "a single PyTorch file",
        false => "a file",
    }
}

/// By its name, or by how it begins.
fn is_gguf(path: &Path) -> bool {
    let mut begin = [0; 4];
    let mut begins = || {
        path.is_file()
            && File::open(path).and_then(|mut file| file.read_exact(&mut begin)).is_ok()
            && begin == *b"GGUF"
    };
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) || begins()
}
