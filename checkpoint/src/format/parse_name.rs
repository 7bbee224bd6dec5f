//! Parses tensor names, so that no list of all names of a model is needed.

use super::tensor_id::{Projection, TensorId};

impl TensorId {
    /// The tensor that `name` denotes, and its chain (from 0) if `name` belongs to the chain layout.
    pub(crate) fn parse(name: &str) -> Option<(Self, Option<usize>)> {
        let (stem, leaf, chain) = match name.split_once(".chains.") {
            Some((stem, rest)) => {
                let (chain, leaf) = rest.split_once('.')?;
                (stem, leaf, Some(chain.parse().ok()?))
            }
            None => {
                let (stem, leaf) = name.rsplit_once('.')?;
                (stem, leaf, None)
            }
        };
        let id = Self::of_stem(stem, leaf == "bias")?;
        // `parse` also accepts 01 and +1.
        let canonical = match chain {
            Some(chain) => id.chain_name(chain),
            None => id.dense_name(),
        };
        (canonical == name).then_some((id, chain))
    }

    fn of_stem(stem: &str, is_bias: bool) -> Option<Self> {
        let of_layer = |rest: &str| {
            let (layer, inner) = rest.split_once('.')?;
            let layer = layer.parse().ok()?;
            match inner {
                "input_layernorm" => return Some(Self::InputNorm { layer }),
                "post_attention_layernorm" => return Some(Self::PostAttentionNorm { layer }),
                "self_attn.q_norm" => return Some(Self::QueryNorm { layer }),
                "self_attn.k_norm" => return Some(Self::KeyNorm { layer }),
                _ => {}
            }
            let projection =
                Projection::ALL.into_iter().find(|projection| projection.name() == inner)?;
            Some(if is_bias {
                Self::Bias { layer, projection }
            } else {
                Self::Weight { layer, projection }
            })
        };
        match stem {
            "model.embed_tokens" => Some(Self::Embedding),
            "model.norm" => Some(Self::FinalNorm),
            "lm_head" => Some(Self::Head),
            _ => of_layer(stem.strip_prefix("model.layers.")?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Architecture, ColmConfig, ConfigFile};

    #[test]
    fn every_name_of_a_model_is_parsed() {
        let mut file = ConfigFile::new(Architecture::Colm, vec![1, 1]);
        (file.vocab_size, file.hidden_size, file.intermediate_size) = (4, 8, 4);
        (file.num_hidden_layers, file.num_attention_heads) = (12, 2);
        file.max_position_embeddings = 8;
        (file.attention_bias, file.mlp_bias, file.qk_norm) = (true, true, true);
        let config = ColmConfig::new(file).unwrap();
        for id in config.tensor_ids() {
            assert_eq!(TensorId::parse(&id.dense_name()), Some((id, None)));
            assert_eq!(TensorId::parse(&id.chain_name(1)), Some((id, Some(1))));
        }
    }

    #[test]
    fn other_names_are_not_parsed() {
        let names = [
            "",
            ".",
            "model",
            "model.norm",
            "model.norm.bias",
            "model.norm.weight.x",
            "model.layers.01.input_layernorm.weight",
            "model.layers.+1.input_layernorm.weight",
            "model.layers.1.input_layernorm.bias",
            "model.layers.99999999999999999999.input_layernorm.weight",
            "model.layers.1.mlp.weight",
            "model.norm.chains.00.weight",
            "model.norm.chains.0.chains.0.weight",
            "model.norm.chains.0",
        ];
        for name in names {
            assert_eq!(TensorId::parse(name), None, "{name}");
        }
    }
}
