//! ChainRmsNorm (docs/spec.md#layers).

use candle_core::{Result, Tensor};
use colm_checkpoint::{ColmConfig, Split};
use colm_kernels::chain_rms_norm;
use mistralrs_quant::ShardedVarBuilder;

use super::chain_tensors::{computed_in, load_chains};
use super::representation::Representation;

/// y_i = w_i * x_i / sqrt(mean(x_i^2) + eps), the mean over the chain alone, or over each of its heads.
pub struct ChainRmsNorm {
    /// Per chain `[hidden_i]`, or `[head_dim]`.
    pub weights: Vec<Tensor>,
    eps: f64,
}

impl ChainRmsNorm {
    /// Loads the first `k` chains of a norm whose weights are split by `widths`. `vb` is at the norm's name.
    pub fn load(
        config: &ColmConfig,
        widths: &Split,
        k: usize,
        vb: &ShardedVarBuilder,
    ) -> Result<Self> {
        let weights = load_chains(widths, k, vb, |width| vec![width])?;
        let weights = weights.iter().map(|weight| weight.to_dtype(computed_in(weight)));
        let weights = weights.collect::<Result<_>>()?;
        Ok(Self { weights, eps: config.file.rms_norm_eps })
    }

    /// A representation of the same shape as `x`.
    pub fn forward(&self, x: &Representation) -> Result<Representation> {
        Ok(Representation::new(chain_rms_norm(x.chains(), &self.weights, self.eps)?))
    }

    /// The norm of every head of `x`, whose chains are `[rows, heads_i * head_dim]`.
    pub fn forward_heads(&self, x: &Representation) -> Result<Representation> {
        let heads = x.chains().iter().zip(&self.weights).map(|(x, weight)| {
            let head_dim = weight.elem_count();
            x.reshape((x.elem_count() / head_dim, head_dim))
        });
        let normed = self.forward(&Representation::new(heads.collect::<Result<_>>()?))?;
        let normed = normed.chains().iter().zip(x.chains());
        let chains = normed.map(|(normed, x)| normed.reshape(x.shape()));
        Ok(Representation::new(chains.collect::<Result<_>>()?))
    }
}
