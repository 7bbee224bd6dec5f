//! The norm of one chain on a GPU.

use candle_core::{Result, Tensor};
use colm_cuda::NormChain;

/// [`crate::chain_rms_norm`], for arguments it has checked.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.to_dtype(x.dtype())?.contiguous()?);
    let mut outs = colm_cuda::chain_rms_norm(&[NormChain { x: &x, weight: &weight }], eps)?;
    // One chain in, one out.
    Ok(outs.remove(0))
}
