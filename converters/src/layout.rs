//! Which files of a checkpoint folder hold the first k chains. No weight file is opened here.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::chain_count::ChainCount;
use crate::config::ColmConfig;
use crate::error::CheckpointError;
use crate::folder_kind;
use crate::index::Index;
use crate::regular_file::{self, NoFile};
use crate::weight_file::is_state_dict;

/// The usual name of the index from tensors to files.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// The usual name of weights in one file.
pub const SINGLE_FILE: &str = "model.safetensors";
/// The index from tensors to PyTorch state dicts.
const STATE_DICT_INDEX_FILE: &str = "pytorch_model.bin.index.json";

/// The two layouts of SPEC 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One tensor per chain, `...chains.{i}...`.
    Chains,
    /// Llama's names and full matrices with zero blocks.
    Dense,
}

impl Layout {
    /// The layout whose naming `tensor` follows.
    pub fn of_name(tensor: &str) -> Self {
        if tensor.contains(".chains.") {
            Self::Chains
        } else {
            Self::Dense
        }
    }
}

/// The i of `...chains.{i}...`.
pub fn chain_in_name(tensor: &str) -> Option<usize> {
    let (_, rest) = tensor.split_once(".chains.")?;
    rest.split('.').next()?.parse().ok()
}

/// The file of `chain` (from 0) of `count`.
pub fn chain_file(chain: usize, count: usize) -> String {
    format!("model-chain-{:05}-of-{count:05}.safetensors", chain + 1)
}

/// The files that a model of the first `k` chains in folder `dir` needs, sorted. Chain layout:
/// those of the first `k` chains, by the index or else by name; later ones need not exist.
/// Dense layout: all of them. The files exist; their contents are not looked at.
pub fn files_for(
    dir: &Path,
    config: &ColmConfig,
    k: ChainCount,
) -> Result<Vec<PathBuf>, CheckpointError> {
    Ok(WeightFiles::find(dir, config, k, false)?.paths)
}

/// Of a checkpoint elsewhere that has the files `names`, those that [`files_for`] would name. If there is an
/// index among them it is already in `dir`, where the others are to go.
pub fn names_for(
    dir: &Path,
    names: &[String],
    config: &ColmConfig,
    k: ChainCount,
) -> Result<Vec<String>, CheckpointError> {
    let Needed { files, .. } = Needed::among(names, dir, config, k, false)?;
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

/// The files to open, and what the index says of them.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    pub paths: Vec<PathBuf>,
    pub index: Option<Index>,
}

impl WeightFiles {
    /// Safetensors files, or if `state_dicts` may stand in for them, PyTorch's.
    pub fn find(
        dir: &Path,
        config: &ColmConfig,
        k: ChainCount,
        state_dicts: bool,
    ) -> Result<Self, CheckpointError> {
        let Needed { files, index } = Needed::among(&names_in(dir)?, dir, config, k, state_dicts)?;
        Ok(Self { paths: existing(dir, files)?, index })
    }
}

/// The files that hold the first k chains, each with what it is needed for.
struct Needed {
    files: Vec<(String, String)>,
    index: Option<Index>,
}

impl Needed {
    /// Of the files `names` of the folder `dir`, in which only the index is looked at.
    fn among(
        names: &[String],
        dir: &Path,
        config: &ColmConfig,
        k: ChainCount,
        state_dicts: bool,
    ) -> Result<Self, CheckpointError> {
        let count = config.chains.count();
        refuse_other_chain_counts(dir, names, count)?;
        let named = |file: &str| names.iter().any(|name| name == file);
        let indexed = |file: &str| {
            let index = Index::read(dir.join(file))?;
            Ok(Self { files: index.files_for(config, k)?, index: Some(index) })
        };
        if named(INDEX_FILE) {
            return indexed(INDEX_FILE);
        }
        if let Some(files) = files_by_name(dir, names, count, k)? {
            return Ok(Self { files, index: None });
        }
        let files = state_dicts_by_name(dir, names)?;
        match files.first() {
            Some(first) if !state_dicts => {
                Err(CheckpointError::StateDict { dir: dir.into(), path: dir.join(first) })
            }
            _ if state_dicts && named(STATE_DICT_INDEX_FILE) => indexed(STATE_DICT_INDEX_FILE),
            Some(_) => {
                let files = files.into_iter().map(|file| (file, String::new())).collect();
                Ok(Self { files, index: None })
            }
            None => Err(folder_kind::no_weights(dir, names)),
        }
    }
}

/// The names of the files in `dir`, sorted.
pub(crate) fn names_in(dir: &Path) -> Result<Vec<String>, CheckpointError> {
    folder_kind::check_folder(dir)?;
    let unreadable = |source| CheckpointError::Read { path: dir.into(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        // No name of ours is other than UTF-8.
        names.extend(entry.map_err(unreadable)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// A chain file of another number of chains belongs to another model.
fn refuse_other_chain_counts(
    dir: &Path,
    names: &[String],
    count: usize,
) -> Result<(), CheckpointError> {
    let expected: HashSet<_> = (0..count).map(|chain| chain_file(chain, count)).collect();
    match names.iter().find(|name| is_chain_file(name) && !expected.contains(*name)) {
        None => Ok(()),
        Some(name) => Err(CheckpointError::ChainFile {
            path: dir.join(name),
            chains: count,
            expected: format!("{} to {}", chain_file(0, count), chain_file(count - 1, count)),
        }),
    }
}

pub(crate) fn is_chain_file(name: &str) -> bool {
    name.starts_with("model-chain-") && name.ends_with(".safetensors")
}

fn is_shard(name: &str) -> bool {
    let safetensors = name.starts_with("model-") && name.ends_with(".safetensors");
    safetensors && name.contains("-of-") && !is_chain_file(name)
}

/// PyTorch state dicts of a model: one file, or the shards of one. Others may hold the state of an
/// optimizer.
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

/// Without an index the names alone tell: one file, chain files, or Llama's shards. None if there
/// are no weights in safetensors files.
fn files_by_name(
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
        return Ok(None);
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
            let needed_for = format!("it holds chain {}, and {k} chains are asked for", chain + 1);
            (chain_file(chain, count), needed_for)
        };
        return Ok(Some((0..k.get()).map(file).collect()));
    }
    let shards =
        names.iter().filter(|name| single.is_some_and(|one| one == *name) || is_shard(name));
    Ok(Some(shards.map(|name| (name.clone(), String::new())).collect()))
}

/// Full paths of the (file, what it is needed for) pairs, or which of them is missing.
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
                // Tools that fetch files one by one leave links to those that are still to come.
                Err(NoFile::Missing | NoFile::LinkToNothing) => {
                    Err(CheckpointError::MissingFile { path, needed_for })
                }
                Err(source) => Err(CheckpointError::NoFile { path, source }),
            }
        })
        .collect()
}
