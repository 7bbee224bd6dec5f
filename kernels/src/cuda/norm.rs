//! RMS norm of all chains on a GPU, in one launch.

use candle_core::{Result, Tensor};
use colm_cuda::NormChain;

/// [`crate::chain_rms_norm`], with checked arguments.
pub(crate) fn chain_rms_norm(x: &[Tensor], weights: &[Tensor], eps: f64) -> Result<Vec<Tensor>> {
    let chains = x
        .iter()
        .zip(weights)
        .map(|(x, weight)| Ok((x.contiguous()?, weight.to_dtype(x.dtype())?.contiguous()?)));
    let chains = chains.collect::<Result<Vec<_>>>()?;
    let chains: Vec<_> = chains.iter().map(|(x, weight)| NormChain { x, weight }).collect();
    colm_cuda::chain_rms_norm(&chains, eps)
}
