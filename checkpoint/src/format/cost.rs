//! What the model at k chains costs (`docs/spec.md#cost`), computed from the config alone.

use candle_core::quantized::GgmlDType;

use super::quantized_type::quantized_bytes;
use super::tensor_id::{Projection, TensorId};
use crate::config::{Architecture, ChainCount, ColmConfig};

/// The sizes of one chain. They fit 128 bits for every config that is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChainSize {
    /// Elements of all its tensors.
    pub parameters: u128,
    /// Elements of its linear layers, which is also their multiply-adds per token.
    pub linear: u128,
    /// Multiply-adds per token of its share of the head, tied or not.
    pub head: u128,
}

impl ColmConfig {
    /// The sizes of `chain` (from 0), without the biases for which `is_absent` is true.
    pub(crate) fn chain_size(
        &self,
        chain: usize,
        is_absent: impl Fn(Projection) -> bool,
    ) -> ChainSize {
        let elements = |id| -> u128 {
            let shape = self.chain_tensor(id, chain).map(|tensor| tensor.shape());
            shape.map_or(0, |shape| shape.into_iter().map(|dim| dim as u128).product())
        };
        let layers = self.file.num_hidden_layers as u128;
        let mut layer = 2 * elements(TensorId::InputNorm { layer: 0 });
        if self.file.qk_norm {
            layer += elements(TensorId::QueryNorm { layer: 0 });
            layer += elements(TensorId::KeyNorm { layer: 0 });
        }
        let mut linear = 0;
        for projection in Projection::ALL {
            linear += elements(TensorId::Weight { layer: 0, projection });
            if self.has_bias(projection) && !is_absent(projection) {
                layer += elements(TensorId::Bias { layer: 0, projection });
            }
        }
        let head = elements(TensorId::Head);
        let embeddings = if self.file.tie_word_embeddings { head } else { 2 * head };
        let parameters = layers * (layer + linear) + embeddings + elements(TensorId::FinalNorm);
        ChainSize { parameters, linear: layers * linear, head }
    }

    /// Bytes of the linear layers and the head of `chain` (from 0) if they are quantized to `wanted`. Matrices that cannot
    /// be quantized have `element` bytes per weight.
    pub(crate) fn quantized_bytes(&self, chain: usize, wanted: GgmlDType, element: u128) -> u128 {
        let bytes = |id| -> u128 {
            let Some(tensor) = self.chain_tensor(id, chain) else { return 0 };
            let shape = tensor.shape();
            let as_it_is = || shape[0] as u128 * shape[1] as u128 * element;
            quantized_bytes(wanted, [shape[0], shape[1]]).unwrap_or_else(as_it_is)
        };
        let layer =
            Projection::ALL.map(|projection| bytes(TensorId::Weight { layer: 0, projection }));
        let layers = self.file.num_hidden_layers as u128;
        layers * layer.iter().sum::<u128>() + bytes(TensorId::Head)
    }

    /// The number of parameters of the model at `k` chains: elements of all its tensors.
    ///
    /// # Panics
    /// If `k` is more than the number of chains of this model.
    pub fn parameters(&self, k: ChainCount) -> u128 {
        (0..k.get()).map(|chain| self.chain_size(chain, |_| false).parameters).sum()
    }

    /// Elements of the linear layers of `chain` (from 0), which is also their multiply-adds per row.
    ///
    /// # Panics
    /// If the model has no such chain.
    pub fn linear_weights(&self, chain: usize) -> u128 {
        self.chain_size(chain, |_| false).linear
    }

    /// Elements of the KV cache per token at `k` chains.
    pub(crate) fn kv_elements(&self, k: ChainCount) -> u128 {
        let heads = self.kv_heads.first(k.get()) as u128;
        2 * self.file.num_hidden_layers as u128 * heads * self.head_dim as u128
    }

    /// How many chains a prompt token goes through at `k` chains (`docs/spec.md#prefix-chain-prefill`).
    pub(crate) fn prompt_chains(&self, k: ChainCount) -> ChainCount {
        match self.architecture {
            Architecture::Colm => k,
            Architecture::ColmAir => ChainCount::ONE,
        }
    }
}
