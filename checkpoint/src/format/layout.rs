//! The two layouts and the names of their files (`docs/spec.md#files`).

use std::fmt;
use std::path::Path;

/// The index from tensors to safetensors files.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// The file of weights that are in one file.
pub(crate) const SINGLE_FILE: &str = "model.safetensors";
/// The index from tensors to PyTorch state dicts.
pub(crate) const STATE_DICT_INDEX_FILE: &str = "pytorch_model.bin.index.json";

/// The two layouts of `docs/spec.md#tensors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One tensor per chain, named `...chains.{i}...` (`docs/spec.md#chain-layout`).
    Chains,
    /// Llama's names and full matrices with zeros above the diagonal (`docs/spec.md#dense-layout`).
    Dense,
}

impl Layout {
    /// The layout to which the name `tensor` belongs.
    pub fn of_name(tensor: &str) -> Self {
        if tensor.contains(".chains.") {
            Self::Chains
        } else {
            Self::Dense
        }
    }
}

impl fmt::Display for Layout {
    /// "chains" or "dense".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chains => "chains",
            Self::Dense => "dense",
        })
    }
}

/// The i of `...chains.{i}...`.
pub(crate) fn chain_in_name(tensor: &str) -> Option<usize> {
    let (_, rest) = tensor.split_once(".chains.")?;
    rest.split('.').next()?.parse().ok()
}

/// The file of `chain` (from 0) of `count` chains.
pub(crate) fn chain_file(chain: usize, count: usize) -> String {
    format!("model-chain-{:05}-of-{count:05}.safetensors", chain + 1)
}

/// Whether `name` is the file of a chain, in a model of any number of chains.
pub(crate) fn is_chain_file(name: &str) -> bool {
    name.starts_with("model-chain-") && name.ends_with(".safetensors")
}

/// Whether `name` is a shard `model-*-of-*.safetensors`.
pub(crate) fn is_shard(name: &str) -> bool {
    let safetensors = name.starts_with("model-") && name.ends_with(".safetensors");
    safetensors && name.contains("-of-") && !is_chain_file(name)
}

/// Whether the file name has an extension of PyTorch state dicts.
pub(crate) fn is_state_dict(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["bin", "pt", "pth"].iter().any(|&of_pytorch| extension == of_pytorch)
    })
}
