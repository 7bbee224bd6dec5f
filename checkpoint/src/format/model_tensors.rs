//! Which tensors a config describes, and their shapes (`docs/spec.md#tensors`).

use super::tensor_id::{ChainTensor, Projection, TensorId};
use crate::config::{ChainCount, ColmConfig, Split};

impl ColmConfig {
    /// Every tensor of the model, in the order in which a forward pass uses them.
    pub fn tensor_ids(&self) -> impl Iterator<Item = TensorId> + '_ {
        let layers = (0..self.file.num_hidden_layers).flat_map(|layer| self.layer_tensors(layer));
        let head = (!self.file.tie_word_embeddings).then_some(TensorId::Head);
        std::iter::once(TensorId::Embedding).chain(layers).chain([TensorId::FinalNorm]).chain(head)
    }

    fn layer_tensors(&self, layer: usize) -> impl Iterator<Item = TensorId> + '_ {
        let linears = Projection::ALL.into_iter().flat_map(move |projection| {
            let bias = self.has_bias(projection).then_some(TensorId::Bias { layer, projection });
            std::iter::once(TensorId::Weight { layer, projection }).chain(bias)
        });
        let of_heads = [TensorId::QueryNorm { layer }, TensorId::KeyNorm { layer }];
        let of_heads = of_heads.into_iter().filter(|_| self.file.qk_norm);
        [TensorId::InputNorm { layer }, TensorId::PostAttentionNorm { layer }]
            .into_iter()
            .chain(of_heads)
            .chain(linears)
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
    ///
    /// # Panics
    /// If the model has no such chain.
    pub fn tensors_of(&self, chain: usize) -> impl Iterator<Item = ChainTensor> + '_ {
        self.tensor_ids().filter_map(move |id| self.chain_tensor(id, chain))
    }

    /// The share of `chain` (from 0) in tensor `id`; None for k and v of Air's chains after the
    /// first.
    ///
    /// # Panics
    /// If the model has no such chain.
    pub fn chain_tensor(&self, id: TensorId, chain: usize) -> Option<ChainTensor> {
        let hidden = || self.hidden.range(chain);
        let (rows, columns) = match id {
            TensorId::Embedding | TensorId::Head => (0..self.file.vocab_size, Some(hidden())),
            TensorId::InputNorm { .. }
            | TensorId::PostAttentionNorm { .. }
            | TensorId::FinalNorm => (hidden(), None),
            TensorId::QueryNorm { .. } => (self.query_norm().range(chain), None),
            TensorId::KeyNorm { .. } => (self.key_norm().range(chain), None),
            TensorId::Weight { projection, .. } => {
                let columns = 0..self.inputs(projection).upto(chain);
                (self.outputs(projection).range(chain), Some(columns))
            }
            TensorId::Bias { projection, .. } => (self.outputs(projection).range(chain), None),
        };
        (!rows.is_empty()).then_some(ChainTensor { id, chain, rows, columns })
    }

    /// The shapes that tensor `id` may have in the dense layout. The first is the full one; Air's k
    /// and v may also stop after the columns of chain 1 (`docs/spec.md#dense-layout`).
    pub fn dense_shapes(&self, id: TensorId) -> Vec<Vec<usize>> {
        let hidden = self.hidden.total();
        match id {
            TensorId::Embedding | TensorId::Head => vec![vec![self.file.vocab_size, hidden]],
            TensorId::InputNorm { .. }
            | TensorId::PostAttentionNorm { .. }
            | TensorId::FinalNorm => {
                vec![vec![hidden]]
            }
            TensorId::QueryNorm { .. } => vec![vec![self.query_norm().total()]],
            TensorId::KeyNorm { .. } => vec![vec![self.key_norm().total()]],
            TensorId::Bias { projection, .. } => vec![vec![self.outputs(projection).total()]],
            TensorId::Weight { projection, .. } => {
                let rows = self.outputs(projection).total();
                let mut shapes = vec![vec![rows, self.inputs(projection).total()]];
                if self.reads_first_chain_only(projection) {
                    shapes.push(vec![rows, self.hidden.of(0)]);
                }
                shapes
            }
        }
    }

    /// Whether `projection` is Air's k or v, in a model of several chains.
    fn reads_first_chain_only(&self, projection: Projection) -> bool {
        matches!(projection, Projection::K | Projection::V)
            && self.chains.count() > self.kv_owner_count()
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

    /// How the weights of the query norms are split over the chains: `head_dim` each.
    pub fn query_norm(&self) -> Split {
        Split::of_shares(&vec![self.head_dim; self.chains.count()])
    }

    /// As [`Self::query_norm`], for keys: only of chains that own some.
    pub fn key_norm(&self) -> Split {
        let owned = |chain| if self.kv_heads.of(chain) > 0 { self.head_dim } else { 0 };
        Split::of_shares(&(0..self.chains.count()).map(owned).collect::<Vec<_>>())
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

    /// Whether `id` is one of [`Self::tensor_ids`].
    pub(crate) fn has_tensor(&self, id: TensorId) -> bool {
        let has_layer = |layer| layer < self.file.num_hidden_layers;
        match id {
            TensorId::Embedding | TensorId::FinalNorm => true,
            TensorId::Head => !self.file.tie_word_embeddings,
            TensorId::InputNorm { layer }
            | TensorId::PostAttentionNorm { layer }
            | TensorId::Weight { layer, .. } => has_layer(layer),
            TensorId::QueryNorm { layer } | TensorId::KeyNorm { layer } => {
                has_layer(layer) && self.file.qk_norm
            }
            TensorId::Bias { layer, projection } => has_layer(layer) && self.has_bias(projection),
        }
    }

    /// How many chains own keys and values: all in CoLM, one in Air.
    fn kv_owner_count(&self) -> usize {
        self.kv_owner(self.chains.count() - 1) + 1
    }
}
