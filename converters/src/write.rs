//! Writing a checkpoint folder in either layout. Tensors are asked for their bytes one at a time.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensorError, View};

use crate::config::ColmConfig;
use crate::error::CheckpointError;
use crate::layout::{chain_file, Index, INDEX_FILE, SINGLE_FILE};
use crate::names::{ChainTensor, Part};

/// Writes folder `dir` in the chain layout: a file per chain, the index and config.json.
/// `tensor` gives each tensor by its [`ChainTensor::shape`], in F32, F16 or BF16. The folder
/// appears when it is complete; one that exists is refused.
pub fn write_chain_layout<V: View, E: From<CheckpointError>>(
    dir: &Path,
    config: &ColmConfig,
    mut tensor: impl FnMut(&ChainTensor) -> Result<V, E>,
) -> Result<(), E> {
    let folder = NewFolder::create(dir, config)?;
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
            total_size += view.data_len();
            views.push((name, view));
        }
        folder.write_tensors(&file, views)?;
    }
    let index = Index::json(weight_map, total_size);
    folder.write_json(INDEX_FILE, index)?;
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
    let folder = NewFolder::create(dir, config)?;
    let mut views = Vec::new();
    for part in config.parts() {
        let view = tensor(&part)?;
        let name = part.dense_name();
        check_view(dir, SINGLE_FILE, &name, &view, &config.dense_shapes(part)[0])?;
        views.push((name, view));
    }
    folder.write_tensors(SINGLE_FILE, views)?;
    folder.finish().map_err(E::from)
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

/// A folder under a temporary name beside its final one, removed unless finished.
struct NewFolder {
    partial: PathBuf,
    dir: PathBuf,
}

impl NewFolder {
    fn create(dir: &Path, config: &ColmConfig) -> Result<Self, CheckpointError> {
        if dir.exists() {
            return Err(CheckpointError::Exists { path: dir.into() });
        }
        let mut name = dir.file_name().unwrap_or_default().to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let partial = dir.with_file_name(name);
        fs::create_dir_all(partial.parent().unwrap_or(dir))
            .and_then(|()| fs::create_dir(&partial))
            .map_err(|source| CheckpointError::Write { path: partial.clone(), source })?;
        let folder = Self { partial, dir: dir.into() };
        folder.write_json("config.json", serde_json::to_string_pretty(&config.file))?;
        Ok(folder)
    }

    fn write_json(
        &self,
        file: &str,
        json: serde_json::Result<String>,
    ) -> Result<(), CheckpointError> {
        let path = self.partial.join(file);
        json.map_err(std::io::Error::from)
            .and_then(|json| fs::write(&path, json + "\n"))
            .map_err(|source| CheckpointError::Write { path, source })
    }

    fn write_tensors<V: View>(
        &self,
        file: &str,
        tensors: Vec<(String, V)>,
    ) -> Result<(), CheckpointError> {
        let path = self.partial.join(file);
        // What Python's readers look for.
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize_to_file(tensors, Some(format), &path)
            .map_err(|error| match error {
                SafeTensorError::IoError(source) => source,
                other => std::io::Error::other(other),
            })
            .and_then(|()| File::open(&path)?.sync_all())
            .map_err(|source| CheckpointError::Write { path, source })
    }

    fn finish(self) -> Result<(), CheckpointError> {
        fs::rename(&self.partial, &self.dir)
            .map_err(|source| CheckpointError::Write { path: self.dir.clone(), source })
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        // Gone already when finished; when not, the failure that ended the writing matters more
        // than one in cleaning up.
        let _ = fs::remove_dir_all(&self.partial);
    }
}
