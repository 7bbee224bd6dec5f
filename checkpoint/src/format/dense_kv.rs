//! The shapes of Air's k and v in the dense layout.

use std::collections::BTreeSet;

use serde_json::Value;

use super::layout::Layout;
use super::tensor_id::TensorId;
use crate::config::ConfigFile;

/// Which dense k and v matrices of an Air model stop after the columns of chain 1. Both shapes are
/// allowed by `docs/spec.md#dense-layout`.
///
/// The chain layout has only one shape. To make `pack` followed by `unpack` restore the original tensors, the
/// config.json of a chain layout records their names as `"dense_kv_of_first_chain": [names]`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DenseKv {
    /// The dense names of the tensors of shape `[kv * head_dim, hidden_1]`. The others have shape
    /// `[kv * head_dim, hidden]`, with zeros after the columns of chain 1.
    narrow: BTreeSet<String>,
}

impl DenseKv {
    const FIELD: &str = "dense_kv_of_first_chain";

    /// The tensors `names` are narrow, all others have the full shape.
    pub(crate) fn with_narrow(names: impl IntoIterator<Item = String>) -> Self {
        Self { narrow: names.into_iter().collect() }
    }

    /// The shapes recorded in the config of a chain layout.
    pub(crate) fn from_config(config: &ConfigFile) -> Self {
        let names = config.other.get(Self::FIELD).and_then(Value::as_array);
        let names = names.into_iter().flatten().filter_map(Value::as_str);
        Self::with_narrow(names.map(str::to_owned))
    }

    /// Records the shapes in `config`, the config of a checkpoint in `layout`.
    pub(crate) fn record(&self, layout: Layout, config: &mut ConfigFile) {
        config.other.remove(Self::FIELD);
        if layout == Layout::Chains && !self.narrow.is_empty() {
            let names = self.narrow.iter().cloned().map(Value::String);
            config.other.insert(Self::FIELD.into(), names.collect());
        }
    }

    /// Whether the dense tensor `id` stops after the columns of chain 1.
    pub(crate) fn is_narrow(&self, id: TensorId) -> bool {
        self.narrow.contains(&id.dense_name())
    }
}
