//! Writing a safetensors file: the header first, then the bytes of the tensors.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::Dtype;

use crate::format::CheckpointError;

/// A safetensors file being written. Its header is complete; the bytes of the tensors follow.
pub(super) struct SafetensorsFile {
    path: PathBuf,
    file: File,
}

impl SafetensorsFile {
    /// Creates the file at `path` with a header for `tensors`, in this order.
    pub fn create(
        path: PathBuf,
        tensors: impl Iterator<Item = (String, Dtype, Vec<usize>)>,
    ) -> Result<Self, CheckpointError> {
        let write = |path: &Path| {
            let header = header(tensors)?;
            let mut file = File::create_new(path)?;
            file.write_all(&header)?;
            Ok(file)
        };
        match write(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(CheckpointError::Write { path, source }),
        }
    }

    /// Appends the next bytes of the tensors.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.file.write_all(bytes).map_err(|source| self.failed(source))
    }

    /// Syncs the file to disk.
    pub fn finish(self) -> Result<(), CheckpointError> {
        self.file.sync_all().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: std::io::Error) -> CheckpointError {
        CheckpointError::Write { path: self.path.clone(), source }
    }
}

/// The length of the header in 8 bytes, then the header, padded with spaces to a multiple of 8.
fn header(
    tensors: impl Iterator<Item = (String, Dtype, Vec<usize>)>,
) -> Result<Vec<u8>, std::io::Error> {
    let mut offset = 0;
    let infos = tensors.map(|(name, dtype, shape)| {
        let begin = offset;
        offset += shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (name, TensorInfo { dtype, shape, data_offsets: (begin, offset) })
    });
    // transformers checks this entry.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let header = Metadata::new(Some(format), infos.collect()).map_err(std::io::Error::other)?;
    let mut json = serde_json::to_vec(&header)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok([&(json.len() as u64).to_le_bytes()[..], &json].concat())
}
