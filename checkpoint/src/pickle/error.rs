//! The error of reading a PyTorch state dict.

use thiserror::Error;

use super::bounds::BoundsError;
use crate::text::{abbreviate, abbreviate_list};

/// Why a file cannot be read as a PyTorch state dict.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PickleError {
    /// The file is not a zip archive.
    #[error("it is not a zip archive as torch.save writes since PyTorch 1.6: {}", abbreviate(&.0.to_string()))]
    NotAnArchive(zip::result::ZipError),
    /// The archive has no pickle, or several.
    #[error("{0} entries of the archive are named data.pkl; expected 1")]
    Pickles(usize),
    /// An entry of the archive is missing.
    #[error("entry \"{}\" of the archive is missing", abbreviate(.0))]
    NoEntry(String),
    /// An entry of the archive cannot be mapped.
    #[error(
        "entry \"{}\" of the archive is compressed or encrypted; expected a stored entry, as torch.save writes",
        abbreviate(.0)
    )]
    Compressed(String),
    /// The archive places an entry outside the file.
    #[error("entry \"{}\" of the archive lies outside the file", abbreviate(.0))]
    Outside(String),
    /// The values are big-endian.
    #[error("its values are {0:?}-endian; expected \"little\"")]
    ByteOrder(String),
    /// The pickle exceeds a limit.
    #[error("data.pkl: {0}")]
    Bounds(#[from] BoundsError),
    /// candle cannot run the pickle.
    #[error("data.pkl: {}", abbreviate(&.0.to_string()))]
    Run(candle_core::Error),
    /// The pickle is something other than a state dict.
    #[error("data.pkl is not a state dict; expected a map from names to tensors")]
    NotAStateDict,
    /// Two tensors have the same name.
    #[error("`{}` occurs twice", abbreviate(.0))]
    Repeated(String),
    /// An entry of the state dict is not a tensor.
    #[error("`{}` is not a tensor as torch.save writes it: {what}", abbreviate(.name))]
    NotATensor {
        /// The name of the entry.
        name: String,
        /// What is expected in its place.
        what: &'static str,
    },
    /// The values of a tensor differ from those in the file.
    #[error(
        "tensor `{}` has \"{}\" in its metadata, by which PyTorch changes the values of the file; expected no metadata, as \
         PyTorch writes after `.clone()` or `.resolve_neg()`",
        abbreviate(.name), abbreviate(.key)
    )]
    Metadata {
        /// The name of the tensor.
        name: String,
        /// The key of the metadata, such as `neg`.
        key: String,
    },
    /// A tensor has an unsupported dtype.
    #[error(
        "tensor `{}` is in a {}; expected a FloatStorage, HalfStorage or BFloat16Storage",
        abbreviate(.name), abbreviate(.class)
    )]
    Storage {
        /// The name of the tensor.
        name: String,
        /// The class of its storage.
        class: String,
    },
    /// A tensor exceeds its storage.
    #[error(
        "tensor `{}` of shape {} and stride {} does not fit its storage of {bytes} bytes",
        abbreviate(.name), abbreviate_list(.shape), abbreviate_list(.stride)
    )]
    OutOfStorage {
        /// The name of the tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its stride in elements, per dimension.
        stride: Vec<usize>,
        /// The length of its storage.
        bytes: usize,
    },
}
