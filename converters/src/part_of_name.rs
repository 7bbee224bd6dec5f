//! From a tensor's name back to what it names, so that no list of all names is needed.

use crate::names::{Part, Projection};

impl Part {
    /// The part that `name` names, and its chain (from 0) where `name` is of the chain layout.
    pub(crate) fn of_name(name: &str) -> Option<(Self, Option<usize>)> {
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
        let part = Self::of_stem(stem, leaf == "bias")?;
        // Numbers have one way to be written.
        let written = match chain {
            Some(chain) => part.chain_name(chain),
            None => part.dense_name(),
        };
        (written == name).then_some((part, chain))
    }

    fn of_stem(stem: &str, is_bias: bool) -> Option<Self> {
        let of_layer = |rest: &str| {
            let (layer, inner) = rest.split_once('.')?;
            let layer = layer.parse().ok()?;
            match inner {
                "input_layernorm" => return Some(Self::InputNorm { layer }),
                "post_attention_layernorm" => return Some(Self::PostAttentionNorm { layer }),
                _ => {}
            }
            let projection =
                Projection::ALL.into_iter().find(|projection| projection.name() == inner)?;
            Some(match is_bias {
                true => Self::Bias { layer, projection },
                false => Self::Weight { layer, projection },
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
    fn every_name_of_a_model_leads_back() {
        let mut file = ConfigFile::of(Architecture::Colm, vec![1, 1]);
        (file.vocab_size, file.hidden_size, file.intermediate_size) = (4, 8, 4);
        (file.num_hidden_layers, file.num_attention_heads) = (12, 2);
        file.max_position_embeddings = 8;
        (file.attention_bias, file.mlp_bias) = (true, true);
        let config = ColmConfig::new(file).unwrap();
        for part in config.parts() {
            assert_eq!(Part::of_name(&part.dense_name()), Some((part, None)));
            assert_eq!(Part::of_name(&part.chain_name(1)), Some((part, Some(1))));
        }
    }

    #[test]
    fn other_names_lead_nowhere() {
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
            assert_eq!(Part::of_name(name), None, "{name}");
        }
    }
}
