//! One memory-mapped safetensors file.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::SafeTensors;

use crate::error::CheckpointError;

/// A safetensors file: its header read, its data mapped, not read.
#[derive(Debug)]
pub(crate) struct WeightFile {
    pub path: PathBuf,
    header: Metadata,
    map: Mmap,
    /// Where the tensors' bytes begin.
    start: usize,
}

impl WeightFile {
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let unreadable = |source| CheckpointError::Read { path: path.into(), source };
        let file = File::open(path).map_err(unreadable)?;
        // SAFETY: the map is read-only and only ever read as bytes, for which every value is
        // valid. A program that shortens or rewrites the file meanwhile breaks this; weights are
        // files that nobody writes while a model runs, and the host engine maps them likewise.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        let (header_len, header) = SafeTensors::read_metadata(&map)
            .map_err(|source| CheckpointError::Corrupt { path: path.into(), source })?;
        Ok(Self { path: path.into(), header, map, start: size_of::<u64>() + header_len })
    }

    /// The names of all tensors, in the order of their bytes.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// Dtype, shape and bytes of tensor `name`.
    pub fn tensor(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        let info = self.header.info(name)?;
        let (begin, end) = info.data_offsets;
        Some((info, &self.map[self.start + begin..self.start + end]))
    }
}
