//! Where the weights of the model's parts are loaded from.

use candle_core::Result;
use colm_checkpoint::{ColmConfig, Projection, Split};
use mistralrs_quant::{QuantizedConfig, ShardedVarBuilder};

use super::linear::ChainLinear;
use super::norm::ChainRmsNorm;

/// Gives the tensors of the model by their names in the chain layout (docs/spec.md#chain-layout). Each function
/// takes a layer, or None for the parts outside the layers, and returns the root of the names on that layer's
/// device.
pub struct WeightSource<'a> {
    /// For weights that may be quantized while loading.
    pub linears: &'a dyn Fn(Option<usize>) -> ShardedVarBuilder,
    /// For weights that are never quantized, on the device that computes with them.
    pub full_precision: &'a dyn Fn(Option<usize>) -> ShardedVarBuilder,
    /// Whether the host quantizes the linear layers after they are loaded. If so, they are not packed.
    pub quantized_later: bool,
}

/// The weights of one decoder layer.
pub struct LayerWeights<'a> {
    /// The config of the model.
    pub config: &'a ColmConfig,
    /// How the checkpoint is quantized, if it is.
    pub quantization: &'a Option<QuantizedConfig>,
    /// Whether to pack linear layers that the host has not quantized.
    pub pack: bool,
    /// At the layer's name. May load to the CPU first, to be quantized on the way.
    pub linears: ShardedVarBuilder,
    /// At the layer's name, on the device that computes.
    pub full_precision: ShardedVarBuilder,
}

impl LayerWeights<'_> {
    /// The first `k` chains of a projection.
    pub fn linear(&self, projection: Projection, k: usize) -> Result<ChainLinear> {
        let vb = self.linears.pp(projection.name());
        ChainLinear::load(self.config, projection, k, self.quantization, self.pack, &vb)
    }

    /// The first `k` chains of a norm over the hidden vector.
    pub fn norm(&self, name: &str, k: usize) -> Result<ChainRmsNorm> {
        ChainRmsNorm::load(self.config, &self.config.hidden, k, &self.full_precision.pp(name))
    }

    /// The first `k` chains of a norm over each head, whose weights are split by `widths`; None if the model has none
    /// (`qk_norm`).
    pub fn head_norm(&self, name: &str, widths: &Split, k: usize) -> Result<Option<ChainRmsNorm>> {
        let load = || ChainRmsNorm::load(self.config, widths, k, &self.full_precision.pp(name));
        self.config.file.qk_norm.then(load).transpose()
    }
}
