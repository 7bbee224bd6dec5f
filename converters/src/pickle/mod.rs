//! PyTorch state dicts (`.bin`, `.pt`, `.pth`): a zip archive of a pickle, which says what tensors
//! there are, and of the storages that hold their values.
//!
//! The pickle is run by candle's reader, which knows no calls and executes nothing, after
//! [`guard::check`] has seen that it stays within bounds.

mod archive;
mod guard;
mod state_dict;

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::pickle::Stack;
use safetensors::Dtype;
use thiserror::Error;

use archive::Archive;

use crate::shortened::{list, shortened};

pub use guard::GuardError;

/// Why a file is no PyTorch state dict, or one that is not read.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum PickleError {
    #[error("it is not a zip archive as torch.save writes since PyTorch 1.6: {}", shortened(&.0.to_string()))]
    NoArchive(zip::result::ZipError),
    #[error("{0} entries of the archive are named data.pkl; expected 1")]
    Pickles(usize),
    #[error("entry \"{}\" of the archive is missing", shortened(.0))]
    NoEntry(String),
    #[error(
        "entry \"{}\" of the archive is compressed or encrypted; expected a stored entry, as torch.save writes",
        shortened(.0)
    )]
    Compressed(String),
    #[error("entry \"{}\" of the archive lies outside the file", shortened(.0))]
    Outside(String),
    #[error("its values are {0:?}-endian; expected \"little\"")]
    ByteOrder(String),
    #[error("data.pkl: {0}")]
    Guard(#[from] GuardError),
    #[error("data.pkl: {}", shortened(&.0.to_string()))]
    Run(candle_core::Error),
    #[error("data.pkl is not a state dict; expected a map from names to tensors")]
    NoStateDict,
    #[error("`{}` comes twice", shortened(.0))]
    Twice(String),
    #[error("`{}` is not a tensor as torch.save writes it: {what}", shortened(.name))]
    NoTensor { name: String, what: &'static str },
    #[error(
        "tensor `{}` is in a {}; expected a FloatStorage, HalfStorage or BFloat16Storage",
        shortened(.name), shortened(.class)
    )]
    Storage { name: String, class: String },
    #[error(
        "tensor `{}` of shape {} and stride {} does not fit its storage of {bytes} bytes",
        shortened(.name), list(.shape), list(.stride)
    )]
    Bounds { name: String, shape: Vec<usize>, stride: Vec<usize>, bytes: usize },
}

/// Where a tensor stands in the file, and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Strided {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Elements from one index to the next, per dimension.
    pub stride: Vec<usize>,
    /// Its bytes in the file, from its first element to its last.
    pub bytes: Range<usize>,
}

/// The tensors of the state dict that `file` holds. Nothing but its pickle is read.
pub(crate) fn read(file: &[u8]) -> Result<BTreeMap<String, Strided>, PickleError> {
    let archive = Archive::open(file)?;
    let pickle = guard::check(&file[archive.pickle.clone()])?;
    let mut stack = Stack::empty();
    stack.read_loop(&mut &*pickle).map_err(PickleError::Run)?;
    let state_dict = stack.finalize().map_err(PickleError::Run)?;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in state_dict::tensors(state_dict)? {
        let storage = archive.storage(&tensor.storage)?;
        let strided = tensor.placed(&name, storage)?;
        if tensors.contains_key(&name) {
            return Err(PickleError::Twice(name));
        }
        tensors.insert(name, strided);
    }
    Ok(tensors)
}

impl Strided {
    /// Whether the elements stand in the file in order, row by row.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1usize;
        self.shape.iter().zip(&self.stride).rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected = expected.saturating_mul(size);
            fits
        })
    }

    /// The elements in order, row by row. `bytes` are those of [`Self::bytes`].
    pub fn gathered(&self, bytes: &[u8]) -> Vec<u8> {
        let size = self.dtype.bitsize() / 8;
        let elements = self.shape.iter().product::<usize>();
        let mut gathered = Vec::with_capacity(elements * size);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..elements {
            let at: usize = index.iter().zip(&self.stride).map(|(i, stride)| i * stride).sum();
            gathered.extend_from_slice(&bytes[at * size..(at + 1) * size]);
            advance(&mut index, &self.shape);
        }
        gathered
    }
}

/// The next index into `shape`, the last dimension fastest.
fn advance(index: &mut [usize], shape: &[usize]) {
    for (i, &size) in index.iter_mut().zip(shape).rev() {
        *i += 1;
        if *i < size {
            return;
        }
        *i = 0;
    }
}
