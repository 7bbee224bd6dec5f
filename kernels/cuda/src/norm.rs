//! ChainRmsNorm of all chains in one launch (`docs/spec.md#layers`).

use candle_core::{bail, Result, Tensor};

use crate::ffi::linear::{self as ffi, colm_chain_rms_norm};
use crate::memory::{address, check_chain_count, code_of, empty_parts, int, launched, stream};

/// One chain of a norm.
#[derive(Clone, Copy, Debug)]
pub struct NormChain<'a> {
    /// `[rows, hidden_i]`
    pub x: &'a Tensor,
    /// `[hidden_i]`
    pub weight: &'a Tensor,
}

/// Returns per chain `weight * x / sqrt(mean(x^2) + eps)` `[rows, hidden_i]`, with the mean over a row.
///
/// # Errors
/// If a shape or dtype does not fit, if a width is not a multiple of [`VECTOR`](crate::limits::VECTOR), or if there are
/// too many chains.
pub fn chain_rms_norm(chains: &[NormChain], eps: f64) -> Result<Vec<Tensor>> {
    let Some(first) = chains.first() else { return Ok(Vec::new()) };
    check_chain_count(chains.len())?;
    let (dtype, device) = (first.x.dtype(), first.x.device());
    let mut launch = ffi::ChainNorm::new(code_of(dtype)?, eps as f32);
    let outs = empty_parts(chains.iter().map(|chain| chain.x.dims()), dtype, device)?;
    for (chain, (NormChain { x, weight }, out)) in chains.iter().zip(&outs).enumerate() {
        let (rows, width) = x.dims2()?;
        if weight.dims() != [width] || x.dtype() != dtype || weight.dtype() != dtype {
            bail!(
                "chain {} has rows of {width} {:?} and a weight of {:?} {:?}; expected {dtype:?} of one width",
                chain + 1,
                x.dtype(),
                weight.dims(),
                weight.dtype()
            );
        }
        launch.push(ffi::NormChain {
            x: address(x, device)?,
            weight: address(weight, device)?,
            y: address(out, device)?,
            rows: int(rows)?,
            width: int(width)?,
        });
    }
    // SAFETY: every address is that of a tensor of the shape and dtype passed to the launcher, checked above. The
    // tensors are freed on the stream of the work.
    launched("chain_rms_norm", unsafe { colm_chain_rms_norm(&launch, stream(device)?) })?;
    Ok(outs)
}
