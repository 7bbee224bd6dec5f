//! The names of tensors in the paper's conventions: Meta's, with the linear layers as lists of one matrix per chain.

use crate::config::{Architecture, ColmConfig};
use crate::format::{Projection, TensorId};

/// A tensor of a folder in the paper's conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PaperTensor {
    pub id: TensorId,
    /// The chain (from 0) of a matrix in a list. None: the tensor holds all chains in order, or is a matrix of chain 1
    /// that all chains share.
    pub chain: Option<usize>,
}

impl PaperTensor {
    /// The tensor that holds the share of `chain` in tensor `id`.
    pub fn holding(config: &ColmConfig, id: TensorId, chain: usize) -> Self {
        let is_list = match id {
            TensorId::Weight { projection, .. } => !is_shared(config, projection),
            _ => false,
        };
        Self { id, chain: is_list.then_some(chain) }
    }

    /// Every tensor of the model.
    pub fn all(config: &ColmConfig) -> impl Iterator<Item = Self> + '_ {
        config.tensor_ids().flat_map(|id| {
            let mut found: Vec<_> = (0..config.chains.count())
                .filter(|&chain| config.chain_tensor(id, chain).is_some())
                .map(|chain| Self::holding(config, id, chain))
                .collect();
            found.dedup();
            found
        })
    }

    /// The name in the files. Biases and norms of heads, which these conventions do not have, get a name of the dense
    /// layout.
    pub fn name(&self) -> String {
        match self.id {
            TensorId::Embedding => "tok_embeddings.weight".into(),
            TensorId::Head => "output.weight".into(),
            TensorId::FinalNorm => "norm.weight".into(),
            TensorId::InputNorm { layer } => format!("layers.{layer}.attention_norm.weight"),
            TensorId::PostAttentionNorm { layer } => format!("layers.{layer}.ffn_norm.weight"),
            TensorId::Weight { layer, projection } => {
                let stem = format!("layers.{layer}.{}", projection_name(projection));
                match self.chain {
                    Some(chain) => format!("{stem}.mlps.{chain}.weight"),
                    None => format!("{stem}.weight"),
                }
            }
            TensorId::Bias { .. } | TensorId::QueryNorm { .. } | TensorId::KeyNorm { .. } => {
                self.id.dense_name()
            }
        }
    }

    /// The tensor that `name` denotes, in a model of any config.
    pub fn parse(name: &str) -> Option<Self> {
        let whole = |id| Self { id, chain: None };
        let tensor = match name {
            "tok_embeddings.weight" => whole(TensorId::Embedding),
            "output.weight" => whole(TensorId::Head),
            "norm.weight" => whole(TensorId::FinalNorm),
            _ => {
                let (layer, inner) = name.strip_prefix("layers.")?.split_once('.')?;
                let layer = layer.parse().ok()?;
                match inner {
                    "attention_norm.weight" => whole(TensorId::InputNorm { layer }),
                    "ffn_norm.weight" => whole(TensorId::PostAttentionNorm { layer }),
                    _ => Self::parse_matrix(layer, inner)?,
                }
            }
        };
        // `parse` also accepts 01 and +1.
        (tensor.name() == name).then_some(tensor)
    }

    fn parse_matrix(layer: usize, inner: &str) -> Option<Self> {
        let stem = inner.strip_suffix(".weight")?;
        let (stem, chain) = match stem.split_once(".mlps.") {
            Some((stem, chain)) => (stem, Some(chain.parse().ok()?)),
            None => (stem, None),
        };
        let projection =
            Projection::ALL.into_iter().find(|&projection| projection_name(projection) == stem)?;
        Some(Self { id: TensorId::Weight { layer, projection }, chain })
    }

    /// The shape in a model of `config`; None if that has no such tensor.
    pub fn shape(&self, config: &ColmConfig) -> Option<Vec<usize>> {
        let chain = self.chain.unwrap_or(0);
        let exists = chain < config.chains.count()
            && *self == Self::holding(config, self.id, chain)
            // A tied head may be in the files as well.
            && (config.has_tensor(self.id) || self.id == TensorId::Head);
        match self.id {
            _ if !exists => None,
            TensorId::Weight { .. } => Some(config.chain_tensor(self.id, chain)?.shape()),
            id => config.dense_shapes(id).into_iter().next(),
        }
    }
}

/// Whether `projection` is Air's k or v: a plain matrix over chain 1.
fn is_shared(config: &ColmConfig, projection: Projection) -> bool {
    config.architecture == Architecture::ColmAir
        && matches!(projection, Projection::K | Projection::V)
}

fn projection_name(projection: Projection) -> &'static str {
    match projection {
        Projection::Q => "attention.wq",
        Projection::K => "attention.wk",
        Projection::V => "attention.wv",
        Projection::O => "attention.wo",
        Projection::Gate => "feed_forward.w1",
        Projection::Up => "feed_forward.w3",
        Projection::Down => "feed_forward.w2",
    }
}

/// The tables of RoPE's frequencies, which some programs save and which follow from the config.
const ROPE_TABLES: [&str; 2] = ["freqs_cis", "rope.freqs"];
/// What a checkpoint of a training run holds in addition to the model.
const TRAINING_STATE: [&str; 4] = ["optimizer", "lr_scheduler", "train_state", "dataloader"];

/// Whether tensor `name` is a table of RoPE's frequencies.
pub(crate) fn is_rope_table(name: &str) -> bool {
    ROPE_TABLES.contains(&name)
}

/// Whether the entry `name` of a PyTorch file holds no weights.
pub(crate) fn holds_no_weights(name: &str) -> bool {
    is_rope_table(name) || TRAINING_STATE.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConfigFile;

    fn config(architecture: Architecture) -> ColmConfig {
        let file = ConfigFile {
            vocab_size: 4,
            hidden_size: 8,
            intermediate_size: 8,
            num_hidden_layers: 12,
            num_attention_heads: 4,
            num_key_value_heads: Some(2),
            max_position_embeddings: 8,
            ..ConfigFile::new(architecture, vec![2, 2])
        };
        ColmConfig::new(file).unwrap()
    }

    #[test]
    fn every_name_of_a_model_is_parsed() {
        for (architecture, count) in [(Architecture::Colm, 16), (Architecture::ColmAir, 14)] {
            let config = config(architecture);
            let tensors: Vec<_> = PaperTensor::all(&config).collect();
            assert_eq!(tensors.len(), 3 + 12 * count);
            for tensor in tensors {
                assert_eq!(PaperTensor::parse(&tensor.name()), Some(tensor));
                assert!(tensor.shape(&config).is_some(), "{}", tensor.name());
            }
        }
    }

    #[test]
    fn a_shared_matrix_is_not_a_list_and_the_others_are() {
        for (name, architecture) in [
            ("layers.11.attention.wk.mlps.1.weight", Architecture::Colm),
            ("layers.11.attention.wk.weight", Architecture::ColmAir),
            ("layers.11.attention.wv.weight", Architecture::ColmAir),
        ] {
            let tensor = PaperTensor::parse(name).unwrap();
            for other in [Architecture::Colm, Architecture::ColmAir] {
                let shape = tensor.shape(&config(other));
                assert_eq!(shape.is_some(), other == architecture, "{name}: {shape:?}");
            }
        }
        for name in [
            "layers.0.attention.wq.weight",
            "layers.0.attention.wq.mlps.2.weight",
            "layers.12.attention.wq.mlps.0.weight",
            "layers.0.feed_forward.w1.weight",
        ] {
            let tensor = PaperTensor::parse(name).unwrap();
            assert_eq!(tensor.shape(&config(Architecture::ColmAir)), None, "{name}");
        }
    }

    #[test]
    fn other_names_are_not_parsed() {
        for name in [
            "",
            "layers",
            "layers.0",
            "norm",
            "norm.bias",
            "layers.00.ffn_norm.weight",
            "layers.+1.ffn_norm.weight",
            "layers.0.attention.wq.mlps.01.weight",
            "layers.0.attention.wq.mlps..weight",
            "layers.0.attention.wq.mlps.0.bias",
            "layers.0.attention.wq.mlps.0.mlps.0.weight",
            "layers.0.attention.q_norm.weight",
            "layers.0.feed_forward.w4.mlps.0.weight",
            "model.norm.weight",
        ] {
            assert_eq!(PaperTensor::parse(name), None, "{name}");
        }
    }
}
