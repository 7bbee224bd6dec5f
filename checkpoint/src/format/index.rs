//! The index from tensors to files (`docs/spec.md#files`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use super::error::CheckpointError;
use super::layout::Layout;
use crate::config::{ChainCount, ColmConfig};
use crate::json::{self, unique_keys, AnyValue, Object};
use crate::text::escape_control;

/// The longest file name on common file systems, in bytes.
const MAX_FILE_NAME: usize = 255;

/// `model.safetensors.index.json`.
#[derive(Debug)]
pub(crate) struct Index {
    pub path: PathBuf,
    /// From the name of a tensor to the name of its file.
    pub weight_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct IndexToRead {
    #[serde(default, rename = "metadata")]
    _metadata: Option<AnyValue>,
    #[serde(deserialize_with = "weight_map")]
    weight_map: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct IndexToWrite {
    metadata: Metadata,
    weight_map: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Metadata {
    total_size: u64,
}

fn weight_map<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    unique_keys(deserializer)
}

impl Index {
    /// Reads an index. Every file it names is a plain file name, so no path leads out of the folder.
    pub fn read(path: PathBuf) -> Result<Self, CheckpointError> {
        let Object(IndexToRead { weight_map, .. }) = json::read(&path)?;
        if weight_map.is_empty() {
            return Err(CheckpointError::EmptyIndex { path });
        }
        for (tensor, file) in &weight_map {
            if !is_plain_file_name(file) {
                let (tensor, file) = (tensor.clone(), file.clone());
                return Err(CheckpointError::IndexPath { index: path, tensor, file });
            }
        }
        Ok(Self { path, weight_map })
    }

    /// The text of an index over `weight_map`, whose tensors have `total_size` bytes.
    pub fn json(
        weight_map: BTreeMap<String, String>,
        total_size: u64,
    ) -> serde_json::Result<String> {
        let metadata = Metadata { total_size };
        serde_json::to_string_pretty(&IndexToWrite { metadata, weight_map })
    }

    /// The files that hold the first `k` chains, each with the reason why it is needed.
    pub fn files_for(
        &self,
        config: &ColmConfig,
        k: ChainCount,
    ) -> Result<Vec<(String, String)>, CheckpointError> {
        let chains = self.weight_map.keys().any(|name| Layout::of_name(name) == Layout::Chains);
        let files: BTreeSet<&String> = if chains {
            let files = config.tensors(k).map(|tensor| {
                let name = tensor.name();
                self.weight_map
                    .get(&name)
                    .ok_or_else(|| CheckpointError::MissingTensor { name, file: self.path.clone() })
            });
            files.collect::<Result<_, _>>()?
        } else {
            self.weight_map.values().collect()
        };
        let reason = format!("{} names it", self.path.display());
        Ok(files.into_iter().map(|file| (file.clone(), reason.clone())).collect())
    }
}

fn is_plain_file_name(file: &str) -> bool {
    let mut components = Path::new(file).components();
    let is_one_component = matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(name)), None) if name == file
    );
    is_one_component
        && escape_control(file) == file
        && file.len() <= MAX_FILE_NAME
        && !file.contains('\\')
}
