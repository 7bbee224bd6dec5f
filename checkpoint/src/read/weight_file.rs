//! A memory-mapped file of weights.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, UncheckedAdvice};
use safetensors::tensor::TensorInfo;

use crate::format::{is_state_dict, AllowedDeviations, CheckpointError, Header};
use crate::paper::holds_no_weights;
use crate::pickle::{self, Entries, Strided};
use crate::regular_file;

/// A safetensors file or PyTorch state dict. Its header is read and its data mapped.
#[derive(Debug)]
pub(crate) struct WeightFile {
    pub path: PathBuf,
    map: Mmap,
    /// Dtype, shape and position in the file, by name.
    tensors: BTreeMap<String, TensorInfo>,
    /// The tensors of a state dict that are not contiguous.
    strided: BTreeMap<String, Strided>,
}

impl WeightFile {
    /// Opens a safetensors file, or a PyTorch state dict if the name has its extension.
    pub fn open(path: &Path, deviations: AllowedDeviations) -> Result<Self, CheckpointError> {
        regular_file::length(path)
            .map_err(|source| CheckpointError::File { path: path.into(), source })?;
        let unreadable = |source| CheckpointError::Read { path: path.into(), source };
        let file = File::open(path).map_err(unreadable)?;
        // SAFETY: The map is read-only and only read as bytes, for which every value is valid.
        // Another program that shortens or rewrites the file meanwhile would break this. Weights
        // are not written while a model runs, and the host engine maps them in the same way.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        let path = path.to_path_buf();
        if is_state_dict(&path) {
            let entries = if deviations.paper_conventions {
                Entries::Training(holds_no_weights)
            } else {
                Entries::Tensors
            };
            let tensors = pickle::read(&map, entries).map_err(|source| {
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

    /// The bytes of tensor `name`, row-major. They are copied only if they are not contiguous.
    pub fn bytes(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let (begin, end) = self.tensors.get(name)?.data_offsets;
        let bytes = &self.map[begin..end];
        Some(match self.strided.get(name) {
            Some(strided) => Cow::Owned(strided.to_contiguous(bytes)),
            None => Cow::Borrowed(bytes),
        })
    }

    /// Returns the memory of the pages read so far to the operating system.
    pub fn release_pages(&self) -> Result<(), CheckpointError> {
        // SAFETY: The map is of a file and never written to. A released page is read from the file
        // again at its next use, with the same bytes.
        unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) }
            .map_err(|source| CheckpointError::Read { path: self.path.clone(), source })
    }
}
