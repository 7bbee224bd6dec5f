//! Where the tensors of a checkpoint's files stand, and the layout of their names.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;

use crate::error::CheckpointError;
use crate::index::Index;
use crate::layout::{is_chain_file, Layout};
use crate::problems::Problems;
use crate::weight_file::WeightFile;

/// Which of `files` holds each tensor; one that stands in two is a problem.
pub(crate) fn place_tensors(
    files: &[WeightFile],
    problems: &mut Problems,
) -> BTreeMap<String, usize> {
    let mut file_of = BTreeMap::new();
    for (position, file) in files.iter().enumerate() {
        for name in file.names() {
            if let Some(first) = file_of.insert(name.clone(), position) {
                let (first, second) = (files[first].path.clone(), file.path.clone());
                let name = name.clone();
                problems.push(CheckpointError::DuplicateTensor { name, first, second });
            }
        }
    }
    file_of
}

/// The layout of the tensors found or, if there are none, that of the index or of the files' names.
pub(crate) fn one_layout(
    files: &[WeightFile],
    file_of: &BTreeMap<String, usize>,
    index: Option<&Index>,
    unread: &[PathBuf],
) -> Result<Layout, CheckpointError> {
    let first = |layout| file_of.iter().find(|(name, _)| Layout::of_name(name) == layout);
    let in_index = || index.into_iter().flat_map(|index| index.weight_map.keys());
    let of_chains = |name: &String| Layout::of_name(name) == Layout::Chains;
    match (first(Layout::Chains), first(Layout::Dense)) {
        (Some((chain, &chain_file)), Some((dense, &dense_file))) => {
            let [chain_file, dense_file] =
                [chain_file, dense_file].map(|at| files[at].path.clone());
            let (chain, dense) = (chain.clone(), dense.clone());
            Err(CheckpointError::MixedLayouts { chain, chain_file, dense, dense_file })
        }
        (Some(_), None) => Ok(Layout::Chains),
        (None, Some(_)) => Ok(Layout::Dense),
        (None, None) => {
            let named = |path: &PathBuf| {
                path.file_name().and_then(OsStr::to_str).is_some_and(is_chain_file)
            };
            let is_chains = in_index().any(of_chains) || unread.iter().any(named);
            Ok(if is_chains { Layout::Chains } else { Layout::Dense })
        }
    }
}
