//! One memory-mapped file of weights.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, UncheckedAdvice};
use safetensors::tensor::TensorInfo;
use safetensors::Dtype;

use crate::error::CheckpointError;
use crate::header::Header;
use crate::pickle::{self, Strided};
use crate::regular_file;

/// A safetensors file or PyTorch state dict: what it holds is known, its data mapped, not read.
#[derive(Debug)]
pub(crate) struct WeightFile {
    pub path: PathBuf,
    map: Mmap,
    tensors: BTreeMap<String, TensorInfo>,
    /// Tensors of a state dict whose elements do not stand in order; their offsets are unused.
    strided: BTreeMap<String, Strided>,
}

impl WeightFile {
    /// Opens a safetensors file, or a PyTorch state dict if the name ends like one's.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        regular_file::length(path)
            .map_err(|source| CheckpointError::NoFile { path: path.into(), source })?;
        let unreadable = |source| CheckpointError::Read { path: path.into(), source };
        let file = File::open(path).map_err(unreadable)?;
        // SAFETY: the map is read-only and only ever read as bytes, for which every value is
        // valid. A program that shortens or rewrites the file meanwhile breaks this; weights are
        // files that nobody writes while a model runs, and the host engine maps them likewise.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        let path = path.to_path_buf();
        if is_state_dict(&path) {
            let tensors = pickle::read(&map).map_err(|source| {
                let (path, source) = (path.clone(), Box::new(source));
                CheckpointError::Pickle { path, source }
            })?;
            return Ok(Self::of_state_dict(path, map, tensors));
        }
        let Header { mut tensors, data } = Header::read(&map)
            .map_err(|source| CheckpointError::Corrupt { path: path.clone(), source })?;
        for info in tensors.values_mut() {
            info.data_offsets.0 += data;
            info.data_offsets.1 += data;
        }
        Ok(Self { path, map, tensors, strided: BTreeMap::new() })
    }

    fn of_state_dict(path: PathBuf, map: Mmap, strided: BTreeMap<String, Strided>) -> Self {
        let tensor = |(name, tensor): (&String, &Strided)| {
            let Strided { dtype, shape, bytes, .. } = tensor.clone();
            let info = TensorInfo { dtype, shape, data_offsets: (bytes.start, bytes.end) };
            (name.clone(), info)
        };
        let tensors = strided.iter().map(tensor).collect();
        let strided = strided.into_iter().filter(|(_, tensor)| !tensor.is_contiguous()).collect();
        Self { path, map, tensors, strided }
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.tensors.keys()
    }

    /// Dtype and shape of tensor `name`.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// The bytes of tensor `name`, row by row; copied only if they do not stand in order.
    pub fn bytes(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let (begin, end) = self.tensors.get(name)?.data_offsets;
        let bytes = &self.map[begin..end];
        Some(match self.strided.get(name) {
            Some(strided) => Cow::Owned(strided.gathered(bytes)),
            None => Cow::Borrowed(bytes),
        })
    }

    /// Gives the memory of the pages read so far back to the system.
    pub fn release_pages(&self) -> Result<(), CheckpointError> {
        // SAFETY: the map is of a file and never written to, so a page dropped here is read from
        // the file again when it is touched next, with the same bytes.
        unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) }
            .map_err(|source| CheckpointError::Read { path: self.path.clone(), source })
    }
}

/// Whether the name of the file is one PyTorch's state dicts have.
pub(crate) fn is_state_dict(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["bin", "pt", "pth"].iter().any(|&of_pytorch| extension == of_pytorch)
    })
}

/// Whether weights of `dtype` are read.
pub(crate) fn is_readable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}
