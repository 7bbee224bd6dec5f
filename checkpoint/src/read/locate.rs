//! Which file holds each tensor, and the layout of the names.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;

use super::problem_list::ProblemList;
use super::weight_file::WeightFile;
use crate::format::{is_chain_file, CheckpointError, Index, Layout, TensorId};

/// The index in `files` of the file of each tensor. A tensor in two files is a problem.
pub(super) fn locate_tensors(
    files: &[WeightFile],
    problems: &mut ProblemList,
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

/// The layout of the tensors. If there are none, that of the index or of the names of files.
pub(super) fn detect_layout(
    files: &[WeightFile],
    file_of: &BTreeMap<String, usize>,
    index: Option<&Index>,
    unreadable: &[PathBuf],
) -> Result<Layout, CheckpointError> {
    // Names that no model has say nothing: they are reported as such.
    let first = |layout| {
        let is_of = |name: &str| Layout::of_name(name) == layout && TensorId::parse(name).is_some();
        file_of.iter().find(|(name, _)| is_of(name))
    };
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
            let is_chains =
                file_of.keys().chain(in_index()).any(of_chains) || unreadable.iter().any(named);
            Ok(if is_chains { Layout::Chains } else { Layout::Dense })
        }
    }
}
