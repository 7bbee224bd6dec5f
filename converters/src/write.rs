//! Writing a checkpoint folder in either layout from tensors that are asked for one at a time.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, View};

use crate::config::ColmConfig;
use crate::error::CheckpointError;
use crate::index::Index;
use crate::layout::{chain_file, INDEX_FILE, SINGLE_FILE};
use crate::names::{ChainTensor, Part};
use crate::new_folder::NewFolder;
use crate::tensor_file::TensorFile;

/// Writes folder `dir` in the chain layout: a file per chain, the index and config.json.
/// `tensor` gives each tensor by its [`ChainTensor::shape`], in F32, F16 or BF16. The folder
/// appears when it is complete; one that exists is refused.
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

/// Writes folder `dir` in the dense layout: model.safetensors and config.json. `tensor` gives
/// each part by the first of its [`ColmConfig::dense_shapes`], in F32, F16 or BF16. The folder
/// appears when it is complete; one that exists is refused. Zero blocks are not checked.
pub fn write_dense_layout<V: View, E: From<CheckpointError>>(
    dir: &Path,
    config: &ColmConfig,
    mut tensor: impl FnMut(&Part) -> Result<V, E>,
) -> Result<(), E> {
    let folder = new_folder(dir, config)?;
    let mut views = Vec::new();
    for part in config.parts() {
        let view = tensor(&part)?;
        let name = part.dense_name();
        check_view(dir, SINGLE_FILE, &name, &view, &config.dense_shapes(part)[0])?;
        views.push((name, view));
    }
    write_tensors(&folder, SINGLE_FILE, views)?;
    folder.finish().map_err(E::from)
}

fn new_folder(dir: &Path, config: &ColmConfig) -> Result<NewFolder, CheckpointError> {
    let folder = NewFolder::create(dir, false)?;
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
    match view.dtype() {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(()),
        found => Err(CheckpointError::Dtype { name, file, found }),
    }
}

fn write_tensors<V: View>(
    folder: &NewFolder,
    file: &str,
    mut tensors: Vec<(String, V)>,
) -> Result<(), CheckpointError> {
    tensors.sort_by(|(name, view), (other_name, other)| {
        other.dtype().cmp(&view.dtype()).then_with(|| name.cmp(other_name))
    });
    let heads =
        tensors.iter().map(|(name, view)| (name.clone(), view.dtype(), view.shape().to_vec()));
    let mut file = TensorFile::create(folder.path(file), heads)?;
    for (_, view) in &tensors {
        file.append(&view.data())?;
    }
    file.finish()
}
