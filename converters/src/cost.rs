//! What k chains cost (SPEC 6), from the config alone.

use crate::chain_count::ChainCount;
use crate::config::{Architecture, ColmConfig};
use crate::names::{Part, Projection};

/// The sizes of one chain. Counts fit 128 bits for every config that is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChainSize {
    /// Elements of all its tensors.
    pub parameters: u128,
    /// Elements of its linear layers: multiply-adds of a token through them.
    pub linear: u128,
    /// Multiply-adds of a token through its share of the head, tied or not.
    pub head: u128,
}

impl ColmConfig {
    /// The sizes of `chain` (from 0). A bias that `is_absent` counts nothing.
    pub(crate) fn chain_size(
        &self,
        chain: usize,
        is_absent: impl Fn(Projection) -> bool,
    ) -> ChainSize {
        let elements = |part| -> u128 {
            let shape = self.chain_tensor(part, chain).map(|tensor| tensor.shape());
            shape.map_or(0, |shape| shape.into_iter().map(|dim| dim as u128).product())
        };
        let layers = self.file.num_hidden_layers as u128;
        let mut layer = 2 * elements(Part::InputNorm { layer: 0 });
        let mut linear = 0;
        for projection in Projection::ALL {
            linear += elements(Part::Weight { layer: 0, projection });
            if self.has_bias(projection) && !is_absent(projection) {
                layer += elements(Part::Bias { layer: 0, projection });
            }
        }
        let head = elements(Part::Head);
        let embeddings = if self.file.tie_word_embeddings { head } else { 2 * head };
        let parameters = layers * (layer + linear) + embeddings + elements(Part::FinalNorm);
        ChainSize { parameters, linear: layers * linear, head }
    }

    /// Elements of all tensors of the first `k` chains.
    ///
    /// # Panics
    /// If `k` is more than the number of chains of this model.
    pub fn parameters(&self, k: ChainCount) -> u128 {
        (0..k.get()).map(|chain| self.chain_size(chain, |_| false).parameters).sum()
    }

    /// Elements of the KV cache per token at `k` chains.
    pub(crate) fn kv_elements(&self, k: ChainCount) -> u128 {
        let heads = self.kv_heads.first(k.get()) as u128;
        2 * self.file.num_hidden_layers as u128 * heads * self.head_dim as u128
    }

    /// How many of `k` chains a prompt's tokens go through: keys and values are all they leave.
    pub(crate) fn prompt_chains(&self, k: ChainCount) -> ChainCount {
        match self.architecture {
            Architecture::Colm => k,
            Architecture::ColmAir => ChainCount::ONE,
        }
    }
}
