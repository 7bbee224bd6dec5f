//! Which tensors a model has, and what each is called in both layouts of SPEC 4.

use std::fmt;
use std::ops::Range;

use crate::chain_count::ChainCount;
use crate::chains::Split;
use crate::config::ColmConfig;

/// A linear layer of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Projection {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

impl Projection {
    /// In the order a block applies them.
    pub const ALL: [Self; 7] =
        [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// The name inside a layer, such as `self_attn.q_proj`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }

    /// Air's k and v read chain 1 alone: their dense matrix may leave the other chains out.
    fn reads_first_chain_only(self, config: &ColmConfig) -> bool {
        matches!(self, Self::K | Self::V) && config.chains.count() > config.kv_owners()
    }
}

/// One tensor of the model across all chains: what Llama's names tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Part {
    Embedding,
    InputNorm {
        layer: usize,
    },
    PostAttentionNorm {
        layer: usize,
    },
    Weight {
        layer: usize,
        projection: Projection,
    },
    Bias {
        layer: usize,
        projection: Projection,
    },
    FinalNorm,
    /// Absent with `tie_word_embeddings`.
    Head,
}

impl Part {
    /// The name in the dense layout: Llama's own.
    pub fn dense_name(&self) -> String {
        format!("{}.{}", self.stem(), self.leaf())
    }

    /// The name of `chain` (from 0) in the chain layout.
    pub fn chain_name(&self, chain: usize) -> String {
        format!("{}.chains.{chain}.{}", self.stem(), self.leaf())
    }

    fn stem(&self) -> String {
        match self {
            Self::Embedding => "model.embed_tokens".into(),
            Self::InputNorm { layer } => format!("model.layers.{layer}.input_layernorm"),
            Self::PostAttentionNorm { layer } => {
                format!("model.layers.{layer}.post_attention_layernorm")
            }
            Self::Weight { layer, projection } | Self::Bias { layer, projection } => {
                format!("model.layers.{layer}.{}", projection.name())
            }
            Self::FinalNorm => "model.norm".into(),
            Self::Head => "lm_head".into(),
        }
    }

    fn leaf(&self) -> &'static str {
        match self {
            Self::Bias { .. } => "bias",
            _ => "weight",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.dense_name())
    }
}

/// One chain's share of a part: a tensor of the chain layout, a block of the dense layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainTensor {
    /// The tensor it is a share of.
    pub part: Part,
    /// The owner, from 0 as in tensor names.
    pub chain: usize,
    /// Its rows in the dense tensor; a vector's elements are its rows.
    pub rows: Range<usize>,
    /// Its columns in the dense matrix; None for a vector.
    pub columns: Option<Range<usize>>,
}

impl ChainTensor {
    /// The name in the chain layout.
    pub fn name(&self) -> String {
        self.part.chain_name(self.chain)
    }

    /// `[rows, columns]`, or `[rows]` for a vector.
    pub fn shape(&self) -> Vec<usize> {
        std::iter::once(self.rows.len())
            .chain(self.columns.as_ref().map(ExactSizeIterator::len))
            .collect()
    }
}

impl ColmConfig {
    /// Every part of the model, in the order a forward pass meets them.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let layers = (0..self.file.num_hidden_layers).flat_map(|layer| self.layer_parts(layer));
        let head = (!self.file.tie_word_embeddings).then_some(Part::Head);
        std::iter::once(Part::Embedding).chain(layers).chain([Part::FinalNorm]).chain(head)
    }

    fn layer_parts(&self, layer: usize) -> impl Iterator<Item = Part> + '_ {
        let linears = Projection::ALL.into_iter().flat_map(move |projection| {
            let bias = self.has_bias(projection).then_some(Part::Bias { layer, projection });
            std::iter::once(Part::Weight { layer, projection }).chain(bias)
        });
        [Part::InputNorm { layer }, Part::PostAttentionNorm { layer }].into_iter().chain(linears)
    }

    /// Every tensor of the first `k` chains, chain by chain.
    ///
    /// # Panics
    /// If `k` is more than the number of chains of this model.
    pub fn tensors(&self, k: ChainCount) -> impl Iterator<Item = ChainTensor> + '_ {
        assert!(k <= self.all_chains(), "{k} of {} chains", self.chains.count());
        (0..k.get()).flat_map(move |chain| self.tensors_of(chain))
    }

    /// Every tensor of `chain` (from 0).
    pub fn tensors_of(&self, chain: usize) -> impl Iterator<Item = ChainTensor> + '_ {
        self.parts().filter_map(move |part| self.chain_tensor(part, chain))
    }

    /// What `chain` owns of `part`; None for k and v of Air's chains past the first.
    pub fn chain_tensor(&self, part: Part, chain: usize) -> Option<ChainTensor> {
        let hidden = || self.hidden.range(chain);
        let (rows, columns) = match part {
            Part::Embedding | Part::Head => (0..self.file.vocab_size, Some(hidden())),
            Part::InputNorm { .. } | Part::PostAttentionNorm { .. } | Part::FinalNorm => {
                (hidden(), None)
            }
            Part::Weight { projection, .. } => {
                let columns = 0..self.inputs(projection).upto(chain);
                (self.outputs(projection).range(chain), Some(columns))
            }
            Part::Bias { projection, .. } => (self.outputs(projection).range(chain), None),
        };
        (!rows.is_empty()).then_some(ChainTensor { part, chain, rows, columns })
    }

    /// The shapes `part` may have in the dense layout. The first is the full one; Air's k and v
    /// may also stop after the columns of chain 1.
    pub fn dense_shapes(&self, part: Part) -> Vec<Vec<usize>> {
        let hidden = self.hidden.total();
        match part {
            Part::Embedding | Part::Head => vec![vec![self.file.vocab_size, hidden]],
            Part::InputNorm { .. } | Part::PostAttentionNorm { .. } | Part::FinalNorm => {
                vec![vec![hidden]]
            }
            Part::Bias { projection, .. } => vec![vec![self.outputs(projection).total()]],
            Part::Weight { projection, .. } => {
                let rows = self.outputs(projection).total();
                let mut shapes = vec![vec![rows, self.inputs(projection).total()]];
                if projection.reads_first_chain_only(self) {
                    shapes.push(vec![rows, self.hidden.of(0)]);
                }
                shapes
            }
        }
    }

    /// How the output of `projection` is split over the chains.
    pub fn outputs(&self, projection: Projection) -> Split {
        match projection {
            Projection::Q => self.heads.scaled(self.head_dim),
            Projection::K | Projection::V => self.kv_heads.scaled(self.head_dim),
            Projection::O | Projection::Down => self.hidden.clone(),
            Projection::Gate | Projection::Up => self.intermediate.clone(),
        }
    }

    /// How the input of `projection` is split over the chains.
    pub fn inputs(&self, projection: Projection) -> Split {
        match projection {
            Projection::O => self.heads.scaled(self.head_dim),
            Projection::Down => self.intermediate.clone(),
            _ => self.hidden.clone(),
        }
    }

    /// Whether `part` is one of [`Self::parts`].
    pub(crate) fn has_part(&self, part: Part) -> bool {
        let has_layer = |layer| layer < self.file.num_hidden_layers;
        match part {
            Part::Embedding | Part::FinalNorm => true,
            Part::Head => !self.file.tie_word_embeddings,
            Part::InputNorm { layer }
            | Part::PostAttentionNorm { layer }
            | Part::Weight { layer, .. } => has_layer(layer),
            Part::Bias { layer, projection } => has_layer(layer) && self.has_bias(projection),
        }
    }

    /// Whether `projection` has a bias (`attention_bias`, `mlp_bias`).
    pub fn has_bias(&self, projection: Projection) -> bool {
        match projection {
            Projection::Q | Projection::K | Projection::V | Projection::O => {
                self.file.attention_bias
            }
            Projection::Gate | Projection::Up | Projection::Down => self.file.mlp_bias,
        }
    }

    /// How many chains own keys and values: all in CoLM, one in Air.
    pub(crate) fn kv_owners(&self) -> usize {
        self.kv_owner(self.chains.count() - 1) + 1
    }
}
