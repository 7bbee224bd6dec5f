//! ChainRmsNorm (docs/spec.md#layers).

use candle_core::{Result, Tensor};
use colm_checkpoint::ColmConfig;
use colm_kernels::chain_rms_norm;
use mistralrs_quant::ShardedVarBuilder;

use super::chain_tensors::{computed_in, load_chains};
use super::representation::Representation;

/// y_i = w_i * x_i / sqrt(mean(x_i^2) + eps), the mean over the chain alone.
pub struct ChainRmsNorm {
    /// Per chain `[hidden_i]`.
    pub weights: Vec<Tensor>,
    eps: f64,
}

impl ChainRmsNorm {
    /// Loads the first `k` chains. `vb` is at the norm's name.
    pub fn load(config: &ColmConfig, k: usize, vb: &ShardedVarBuilder) -> Result<Self> {
        let weights = load_chains(&config.hidden, k, vb, |width| vec![width])?;
        let weights = weights.iter().map(|weight| weight.to_dtype(computed_in(weight)));
        let weights = weights.collect::<Result<_>>()?;
        Ok(Self { weights, eps: config.file.rms_norm_eps })
    }

    /// A representation of the same shape as `x`.
    pub fn forward(&self, x: &Representation) -> Result<Representation> {
        Ok(Representation::new(chain_rms_norm(x.chains(), &self.weights, self.eps)?))
    }
}
