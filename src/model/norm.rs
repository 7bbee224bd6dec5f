//! ChainRmsNorm (docs/spec.md#layers).

use candle_core::{Result, Tensor};
use colm_kernels::chain_rms_norm;

use super::embedding::activation_dtype;
use super::representation::Representation;

/// y_i = w_i * x_i / sqrt(mean(x_i^2) + eps), the mean over the chain alone, or over each of its heads.
pub struct ChainRmsNorm {
    /// Per chain `[hidden_i]`, or `[head_dim]`.
    pub weights: Vec<Tensor>,
    eps: f64,
}

impl ChainRmsNorm {
    /// From the weights of every chain, chain 1 first.
    ///
    /// # Errors
    /// If their dtype cannot be converted.
    pub fn new(weights: Vec<Tensor>, eps: f64) -> Result<Self> {
        let weights = weights.iter().map(|weight| weight.to_dtype(activation_dtype(weight)));
        Ok(Self { weights: weights.collect::<Result<_>>()?, eps })
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
