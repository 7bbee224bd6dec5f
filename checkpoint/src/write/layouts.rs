//! Writing a checkpoint from tensors that a program has in memory.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::View;

use super::atomic_folder::AtomicFolder;
use super::safetensors_file::SafetensorsFile;
use crate::config::ColmConfig;
use crate::format::{
    chain_file, is_supported, ChainTensor, CheckpointError, Index, TensorId, INDEX_FILE,
    SINGLE_FILE,
};

/// Writes folder `dir` in the chain layout: a file per chain, the index and config.json.
///
/// `tensor` is called for every tensor of a chain and returns it with shape [`ChainTensor::shape`], in F32, F16 or
/// BF16. One chain is in memory at a time. The folder appears when it is complete.
///
/// # Errors
/// If the folder exists, if `tensor` fails or returns another shape or dtype, or if writing fails.
pub fn write_chain_layout<V: View, E: From<CheckpointError>>(
    dir: &Path,
    config: &ColmConfig,
    mut tensor: impl FnMut(&ChainTensor) -> Result<V, E>,
) -> Result<(), E> {
    let folder = new_folder(dir, config)?;
    let count = config.chains.count();
    let mut weight_map = BTreeMap::new();
    let mut total_size = 0;
    for chain in 0..count {
        let file = chain_file(chain, count);
        let mut views = Vec::new();
        for needed in config.tensors_of(chain) {
            let view = tensor(&needed)?;
            let name = needed.name();
            check_view(dir, &file, &name, &view, &needed.shape())?;
            weight_map.insert(name.clone(), file.clone());
            total_size += view.data_len() as u64;
            views.push((name, view));
        }
        write_tensors(&folder, &file, views)?;
    }
    let index = Index::json(weight_map, total_size).map_err(CheckpointError::Json)?;
    folder.write_text(INDEX_FILE, &index)?;
    folder.finish().map_err(E::from)
}

/// Writes folder `dir` in the dense layout: model.safetensors and config.json.
///
/// `tensor` is called for every tensor and returns it with the first of its
/// [`ColmConfig::dense_shapes`], in F32, F16 or BF16. All of them are in memory at once. Whether the
/// submatrices above the diagonal are zero is not checked. The folder appears when it is complete.
///
/// # Errors
/// If the folder exists, if `tensor` fails or returns another shape or dtype, or if writing fails.
pub fn write_dense_layout<V: View, E: From<CheckpointError>>(
    dir: &Path,
    config: &ColmConfig,
    mut tensor: impl FnMut(&TensorId) -> Result<V, E>,
) -> Result<(), E> {
    let folder = new_folder(dir, config)?;
    let mut views = Vec::new();
    for id in config.tensor_ids() {
        let view = tensor(&id)?;
        let name = id.dense_name();
        check_view(dir, SINGLE_FILE, &name, &view, &config.dense_shapes(id)[0])?;
        views.push((name, view));
    }
    write_tensors(&folder, SINGLE_FILE, views)?;
    folder.finish().map_err(E::from)
}

fn new_folder(dir: &Path, config: &ColmConfig) -> Result<AtomicFolder, CheckpointError> {
    let folder = AtomicFolder::create(dir, false)?;
    let json = serde_json::to_string_pretty(&config.file).map_err(CheckpointError::Json)?;
    folder.write_text("config.json", &json)?;
    Ok(folder)
}

fn check_view(
    dir: &Path,
    file: &str,
    name: &str,
    view: &impl View,
    shape: &[usize],
) -> Result<(), CheckpointError> {
    let (name, file) = (name.to_owned(), dir.join(file));
    if view.shape() != shape {
        let (found, expected) = (view.shape().to_vec(), format!("{shape:?}"));
        return Err(CheckpointError::Shape { name, file, found, expected });
    }
    if !is_supported(view.dtype()) {
        return Err(CheckpointError::Dtype { name, file, found: view.dtype() });
    }
    Ok(())
}

fn write_tensors<V: View>(
    folder: &AtomicFolder,
    file: &str,
    mut tensors: Vec<(String, V)>,
) -> Result<(), CheckpointError> {
    tensors.sort_by(|(name, view), (other_name, other)| {
        other.dtype().cmp(&view.dtype()).then_with(|| name.cmp(other_name))
    });
    let described =
        tensors.iter().map(|(name, view)| (name.clone(), view.dtype(), view.shape().to_vec()));
    let mut file = SafetensorsFile::create(folder.path(file), described)?;
    for (_, view) in &tensors {
        file.append(&view.data())?;
    }
    file.finish()
}
