//! The tensors of a model and their names in both layouts.

use std::fmt;
use std::ops::Range;

/// A linear layer of a transformer block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Projection {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// The output of the attention.
    O,
    /// The gate of the MLP.
    Gate,
    /// The input of the MLP.
    Up,
    /// The output of the MLP.
    Down,
}

impl Projection {
    /// All projections, in the order in which a block applies them.
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
}

/// A tensor of the model, over all chains: one tensor of the dense layout, and up to one per chain
/// of the chain layout. Layers count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorId {
    /// The token embedding, `[vocab_size, hidden]`.
    Embedding,
    /// The norm before the attention, `[hidden]`.
    InputNorm {
        /// The layer.
        layer: usize,
    },
    /// The norm before the MLP, `[hidden]`.
    PostAttentionNorm {
        /// The layer.
        layer: usize,
    },
    /// The matrix of a linear layer, `[out, in]`.
    Weight {
        /// The layer.
        layer: usize,
        /// The linear layer.
        projection: Projection,
    },
    /// The bias of a linear layer, `[out]`.
    Bias {
        /// The layer.
        layer: usize,
        /// The linear layer.
        projection: Projection,
    },
    /// The norm of each query head (`qk_norm`): `[head_dim]` per chain, chain after chain.
    QueryNorm {
        /// The layer.
        layer: usize,
    },
    /// The norm of each key head (`qk_norm`): `[head_dim]` per chain that owns keys, chain after chain.
    KeyNorm {
        /// The layer.
        layer: usize,
    },
    /// The norm before the head, `[hidden]`.
    FinalNorm,
    /// The head, `[vocab_size, hidden]`; absent with `tie_word_embeddings`.
    Head,
}

impl TensorId {
    /// The name in the dense layout, which is Llama's.
    pub fn dense_name(&self) -> String {
        format!("{}.{}", self.stem(), self.leaf())
    }

    /// The name of the share of `chain` (from 0) in the chain layout.
    pub fn chain_name(&self, chain: usize) -> String {
        format!("{}.chains.{chain}.{}", self.stem(), self.leaf())
    }

    /// Whether this is the weight of a norm.
    pub fn is_norm(&self) -> bool {
        match self {
            Self::InputNorm { .. }
            | Self::PostAttentionNorm { .. }
            | Self::QueryNorm { .. }
            | Self::KeyNorm { .. }
            | Self::FinalNorm => true,
            Self::Embedding | Self::Weight { .. } | Self::Bias { .. } | Self::Head => false,
        }
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
            Self::QueryNorm { layer } => format!("model.layers.{layer}.self_attn.q_norm"),
            Self::KeyNorm { layer } => format!("model.layers.{layer}.self_attn.k_norm"),
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

impl fmt::Display for TensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.dense_name())
    }
}

/// One chain's share of a tensor: a tensor of the chain layout, or a submatrix of the dense layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainTensor {
    /// The tensor over all chains.
    pub id: TensorId,
    /// The chain that owns the share, from 0 as in tensor names.
    pub chain: usize,
    /// The rows of the dense tensor. A vector has a row per element.
    pub rows: Range<usize>,
    /// The columns of the dense matrix; None for a vector.
    pub columns: Option<Range<usize>>,
}

impl ChainTensor {
    /// The name in the chain layout.
    pub fn name(&self) -> String {
        self.id.chain_name(self.chain)
    }

    /// `[rows, columns]`, or `[rows]` for a vector.
    pub fn shape(&self) -> Vec<usize> {
        std::iter::once(self.rows.len())
            .chain(self.columns.as_ref().map(ExactSizeIterator::len))
            .collect()
    }
}
