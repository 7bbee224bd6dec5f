//! The index from tensors to files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use crate::any_json::AnyJson;
use crate::chain_count::ChainCount;
use crate::config::ColmConfig;
use crate::error::CheckpointError;
use crate::escaped::escaped;
use crate::json_file;
use crate::layout::Layout;
use crate::map_only::MapOnly;
use crate::unique_names::unique_names;

/// The longest name a file has on common file systems, in bytes.
const MAX_NAME: usize = 255;

/// `model.safetensors.index.json`.
#[derive(Debug)]
pub(crate) struct Index {
    pub path: PathBuf,
    pub weight_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Read {
    #[serde(default, rename = "metadata")]
    _metadata: Option<AnyJson>,
    #[serde(deserialize_with = "weight_map")]
    weight_map: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Written {
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
    unique_names(deserializer)
}

impl Index {
    pub fn read(path: PathBuf) -> Result<Self, CheckpointError> {
        let MapOnly(Read { weight_map, .. }) = json_file::read(&path)?;
        if weight_map.is_empty() {
            return Err(CheckpointError::EmptyIndex { path });
        }
        for (tensor, file) in &weight_map {
            let mut components = Path::new(file).components();
            let plain = matches!(
                (components.next(), components.next()),
                (Some(Component::Normal(name)), None) if name == file.as_str()
            );
            let is_shown_as_it_is = escaped(file) == file.as_str();
            if !plain || !is_shown_as_it_is || file.len() > MAX_NAME || file.contains('\\') {
                let (tensor, file) = (tensor.clone(), file.clone());
                return Err(CheckpointError::IndexPath { index: path, tensor, file });
            }
        }
        Ok(Self { path, weight_map })
    }

    /// The text of an index over `weight_map`, whose tensors take `total_size` bytes.
    pub fn json(
        weight_map: BTreeMap<String, String>,
        total_size: u64,
    ) -> serde_json::Result<String> {
        let metadata = Metadata { total_size };
        serde_json::to_string_pretty(&Written { metadata, weight_map })
    }

    /// The files that hold the first `k` chains, each with what it is needed for.
    pub fn files_for(
        &self,
        config: &ColmConfig,
        k: ChainCount,
    ) -> Result<Vec<(String, String)>, CheckpointError> {
        let chains = self.weight_map.keys().any(|name| Layout::of_name(name) == Layout::Chains);
        let files: BTreeSet<&String> = if chains {
            let named = config.tensors(k).map(|tensor| {
                let name = tensor.name();
                self.weight_map
                    .get(&name)
                    .ok_or_else(|| CheckpointError::MissingTensor { name, file: self.path.clone() })
            });
            named.collect::<Result<_, _>>()?
        } else {
            self.weight_map.values().collect()
        };
        let needed_for = format!("{} names it", self.path.display());
        Ok(files.into_iter().map(|file| (file.clone(), needed_for.clone())).collect())
    }
}
