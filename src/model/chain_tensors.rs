//! Tensors that are loaded chain by chain and used as they are, without packing.

use candle_core::{DType, Result, Tensor};
use colm_checkpoint::Split;
use mistralrs_quant::ShardedVarBuilder;

/// The dtype of activations in a model with weights like these.
pub(super) fn computed_in(weights: &Tensor) -> DType {
    colm_kernels::activation_dtype(weights.device(), weights.dtype())
}

/// `chains.{i}.weight` of those of the first `k` chains that have a width, with the shape that `shape` gives for it.
pub(super) fn load_chains(
    widths: &Split,
    k: usize,
    vb: &ShardedVarBuilder,
    shape: impl Fn(usize) -> Vec<usize>,
) -> Result<Vec<Tensor>> {
    let weight = |i: usize| vb.pp("chains").pp(i).get(shape(widths.of(i)), "weight");
    (0..k).filter(|&i| widths.of(i) > 0).map(weight).collect()
}
