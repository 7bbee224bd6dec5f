//! Which files of a checkpoint folder hold the first k chains (`docs/spec.md#files`). No weight file is opened here.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::folder::{names_in, no_weights};
use super::paper_files::paper_files;
use crate::config::{ChainCount, ColmConfig};
use crate::format::{
    chain_file, is_chain_file, is_shard, is_state_dict, AllowedDeviations, CheckpointError, Index,
    INDEX_FILE, SINGLE_FILE, STATE_DICT_INDEX_FILE,
};
use crate::regular_file::{self, FileError};

/// The paths of the weight files that the model at `k` chains needs, sorted: in the chain layout the
/// files of the first `k` chains, by the index or else by name; in the dense layout all files.
///
/// The files exist; their contents are not checked.
///
/// # Errors
/// If the folder has no weights, several sets of weights without an index, an unreadable index, or
/// if one of the files is missing.
pub fn files_for(
    dir: &Path,
    config: &ColmConfig,
    k: ChainCount,
) -> Result<Vec<PathBuf>, CheckpointError> {
    Ok(WeightFiles::find(dir, config, k, AllowedDeviations::default())?.paths)
}

/// The names of the weight files of a checkpoint whose files are `names`; see
/// [`ModelConfig::select_files`](super::ModelConfig::select_files).
pub(super) fn select_files(
    dir: &Path,
    names: &[String],
    config: &ColmConfig,
    k: ChainCount,
    deviations: AllowedDeviations,
) -> Result<Vec<String>, CheckpointError> {
    let NeededFiles { files, .. } = NeededFiles::select(names, dir, config, k, deviations)?;
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

/// The weight files of a folder, and its index.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    pub paths: Vec<PathBuf>,
    pub index: Option<Index>,
}

impl WeightFiles {
    /// Finds safetensors files, or if there are none and `deviations` allow them, PyTorch state dicts.
    pub fn find(
        dir: &Path,
        config: &ColmConfig,
        k: ChainCount,
        deviations: AllowedDeviations,
    ) -> Result<Self, CheckpointError> {
        let NeededFiles { files, index } =
            NeededFiles::select(&names_in(dir)?, dir, config, k, deviations)?;
        Ok(Self { paths: existing(dir, files)?, index })
    }
}

/// The files that hold the first k chains.
struct NeededFiles {
    /// Each with the reason why it is needed.
    files: Vec<(String, String)>,
    index: Option<Index>,
}

impl NeededFiles {
    /// Selects from the files `names` of folder `dir`. Only the index is read.
    fn select(
        names: &[String],
        dir: &Path,
        config: &ColmConfig,
        k: ChainCount,
        deviations: AllowedDeviations,
    ) -> Result<Self, CheckpointError> {
        let state_dicts = deviations.state_dicts;
        let count = config.chains.count();
        check_chain_files(dir, names, count)?;
        let has = |file: &str| names.iter().any(|name| name == file);
        let indexed = |file: &str| {
            let index = Index::read(dir.join(file))?;
            Ok(Self { files: index.files_for(config, k)?, index: Some(index) })
        };
        if has(INDEX_FILE) {
            return indexed(INDEX_FILE);
        }
        if deviations.paper_conventions {
            let files = paper_files(dir, names)?;
            let files = files.into_iter().map(|file| (file, String::new())).collect();
            return Ok(Self { files, index: None });
        }
        if let Some(files) = safetensors_by_name(dir, names, count, k)? {
            return Ok(Self { files, index: None });
        }
        let files = state_dicts_by_name(dir, names)?;
        match files.first() {
            Some(first) if !state_dicts => {
                Err(CheckpointError::StateDict { dir: dir.into(), path: dir.join(first) })
            }
            _ if state_dicts && has(STATE_DICT_INDEX_FILE) => indexed(STATE_DICT_INDEX_FILE),
            Some(_) => {
                let files = files.into_iter().map(|file| (file, String::new())).collect();
                Ok(Self { files, index: None })
            }
            None => Err(no_weights(dir, names)),
        }
    }
}

/// Checks that no chain file belongs to a model of another number of chains.
fn check_chain_files(dir: &Path, names: &[String], count: usize) -> Result<(), CheckpointError> {
    let expected: HashSet<_> = (0..count).map(|chain| chain_file(chain, count)).collect();
    match names.iter().find(|name| is_chain_file(name) && !expected.contains(*name)) {
        None => Ok(()),
        Some(name) => Err(CheckpointError::WrongChainFile {
            path: dir.join(name),
            chains: count,
            expected: format!("{} to {}", chain_file(0, count), chain_file(count - 1, count)),
        }),
    }
}

/// The PyTorch state dicts of a model: one file, or the shards of one. Other files with these
/// extensions may hold the state of an optimizer.
fn state_dicts_by_name(dir: &Path, names: &[String]) -> Result<Vec<String>, CheckpointError> {
    let named = |stem: &str, name: &str| {
        Path::new(name).file_stem().is_some_and(|found| found == stem)
            && is_state_dict(Path::new(name))
    };
    let is_single = |name: &&String| named("pytorch_model", name) || named("model", name);
    let is_shard = |name: &&String| {
        name.starts_with("pytorch_model-") && name.contains("-of-") && name.ends_with(".bin")
    };
    let singles: Vec<_> = names.iter().filter(is_single).collect();
    let shards: Vec<_> = names.iter().filter(is_shard).collect();
    if let ([first, second, ..], _) | ([first], [second, ..]) = (&singles[..], &shards[..]) {
        return Err(CheckpointError::AmbiguousWeights {
            dir: dir.into(),
            first: first.to_string(),
            second: second.to_string(),
        });
    }
    let found: Vec<_> = singles.into_iter().chain(shards).cloned().collect();
    match names.iter().find(|name| name.starts_with("consolidated.") && name.ends_with(".pth")) {
        Some(meta) if found.is_empty() => Err(CheckpointError::MetaFormat { path: dir.join(meta) }),
        _ => Ok(found),
    }
}

/// The safetensors files of a folder without an index, by their names: one file, chain files, shards, or, if there are
/// none of these, all files with the extension. None if there are no safetensors files.
fn safetensors_by_name(
    dir: &Path,
    names: &[String],
    count: usize,
    k: ChainCount,
) -> Result<Option<Vec<(String, String)>>, CheckpointError> {
    let single = names.iter().find(|name| *name == SINGLE_FILE);
    let chain = names.iter().find(|name| is_chain_file(name));
    let shard = names.iter().find(|name| is_shard(name));
    let mut kinds = [single, chain, shard].into_iter().flatten();
    let Some(first) = kinds.next() else {
        let others = names.iter().filter(|name| is_of_any_name(name));
        let others: Vec<_> = others.map(|name| (name.clone(), String::new())).collect();
        return Ok((!others.is_empty()).then_some(others));
    };
    if let Some(second) = kinds.next() {
        return Err(CheckpointError::AmbiguousWeights {
            dir: dir.into(),
            first: first.clone(),
            second: second.clone(),
        });
    }
    if chain.is_some() {
        let file = |chain| {
            let reason = format!("it holds chain {}, and {k} chains are asked for", chain + 1);
            (chain_file(chain, count), reason)
        };
        return Ok(Some((0..k.get()).map(file).collect()));
    }
    let shards =
        names.iter().filter(|name| single.is_some_and(|one| one == *name) || is_shard(name));
    Ok(Some(shards.map(|name| (name.clone(), String::new())).collect()))
}

/// Whether the file may hold weights although no program of the usual ones names them so. Adapters (LoRA) are not the
/// weights of a model.
pub(super) fn is_of_any_name(name: &str) -> bool {
    name.ends_with(".safetensors") && !name.starts_with("adapter")
}

/// The full paths of `files`, pairs of name and reason. A missing file is an error that quotes the reason, if there is one.
fn existing(
    dir: &Path,
    files: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<PathBuf>, CheckpointError> {
    files
        .into_iter()
        .map(|(file, needed_for)| {
            let path = dir.join(file);
            match regular_file::length(&path) {
                Ok(_) => Ok(path),
                // Download tools leave dangling links in place of files that are still to come.
                Err(error @ FileError::DanglingLink) => {
                    let mut why = vec![error.to_string(), needed_for];
                    why.retain(|why| !why.is_empty());
                    Err(CheckpointError::MissingFile { path, why: why.join("; ") })
                }
                Err(FileError::Missing) => {
                    Err(CheckpointError::MissingFile { path, why: needed_for })
                }
                Err(source) => Err(CheckpointError::File { path, source }),
            }
        })
        .collect()
}
