//! Where the weights of a layer come from.

use candle_core::Result;
use colm_checkpoint::{ColmConfig, Projection};
use mistralrs_quant::{QuantizedConfig, ShardedVarBuilder};

use super::layers::ChainRmsNorm;
use super::linear::ChainLinear;

/// The weights of one layer, under their names in the chain layout (docs/spec.md#tensors).
pub struct Source<'a> {
    pub config: &'a ColmConfig,
    /// How the checkpoint is quantized, if it is.
    pub quantization: &'a Option<QuantizedConfig>,
    /// Whether to pack linear layers for the kernels, where the host has not quantized them.
    pub pack: bool,
    /// Stands at the layer's name. May load to the CPU first, for quantization on the way.
    pub linears: ShardedVarBuilder,
    /// Stands there too, on the device that computes.
    pub others: ShardedVarBuilder,
}

impl Source<'_> {
    /// The first `k` chains of a projection.
    pub fn linear(&self, projection: Projection, k: usize) -> Result<ChainLinear> {
        let vb = self.linears.pp(projection.name());
        ChainLinear::load(self.config, projection, k, self.quantization, self.pack, &vb)
    }

    /// The first `k` chains of a norm.
    pub fn norm(&self, name: &str, k: usize) -> Result<ChainRmsNorm> {
        ChainRmsNorm::load(self.config, k, &self.others.pp(name))
    }
}
