//! RMS norm of all chains.

use candle_core::{bail, DType, Result, Tensor};

use crate::cpu::arch::{self, LANES};
use crate::cpu::tensor_rows::{contiguous_rows, cpu_storage, fill_rows};
use crate::cpu::{for_dtype, Element, TensorRows};

/// ChainRmsNorm (`docs/spec.md#layers`): `y_i = weight_i * x_i / sqrt(mean(x_i^2) + eps)`, with the mean over each row
/// of the chain.
///
/// `x` has per chain `[rows of the chain, hidden_i]` of f32, bf16 or f16; rows may be strided. `weights` has
/// `[hidden_i]` for at least as many chains. Returns per chain a contiguous tensor of the shape and dtype of `x`,
/// computed in f32 and rounded once.
///
/// # Errors
/// If a chain has no weight or one of another width, or for another dtype.
pub fn chain_rms_norm(x: &[Tensor], weights: &[Tensor], eps: f64) -> Result<Vec<Tensor>> {
    if weights.len() < x.len() {
        bail!("{} chains, but norm weights of {}", x.len(), weights.len());
    }
    for (chain, (x, weight)) in x.iter().zip(weights).enumerate() {
        let (_, hidden) = x.dims2()?;
        if hidden == 0 || weight.dims() != [hidden] {
            bail!(
                "chain {}: the norm of rows [rows, hidden] = {:?} needs a weight of [hidden], not {:?}",
                chain + 1,
                x.dims(),
                weight.dims()
            );
        }
    }
    #[cfg(feature = "gpu")]
    if x.iter().any(crate::cuda::accepts) {
        return crate::cuda::chain_rms_norm(x, weights, eps);
    }
    x.iter().zip(weights).map(|(x, weight)| norm(x, weight, eps)).collect()
}

/// One chain on the CPU.
fn norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let hidden = weight.elem_count();
    let weight = contiguous_rows(&weight.to_dtype(DType::F32)?)?;
    let (storage, layout) = weight.storage_and_layout();
    let weight = &cpu_storage(&storage)?.as_slice::<f32>()?[layout.start_offset()..][..hidden];
    for_dtype!(x.dtype(), T => norm_rows::<T>(x, weight, eps))
}

fn norm_rows<T: Element>(x: &Tensor, weight: &[f32], eps: f64) -> Result<Tensor> {
    let hidden = weight.len();
    let x = contiguous_rows(x)?;
    let (storage, layout) = x.storage_and_layout();
    let rows = TensorRows::<T>::new(&storage, layout)?;
    let mut out = vec![T::zero(); x.elem_count()];
    let scratch = || vec![0.0; hidden];
    fill_rows(&mut out, hidden, scratch, |wide, row, out| {
        T::widen(rows.row(row), wide);
        let mean = f64::from(sum_of_squares(wide)) / hidden as f64;
        let scale = (1.0 / (mean + eps).sqrt()) as f32;
        for ((out, &x), &weight) in out.iter_mut().zip(&*wide).zip(weight) {
            *out = T::narrow(x * scale * weight);
        }
    });
    Tensor::from_vec(out, x.dims(), x.device())
}

/// Summed lane by lane: it vectorizes, and the order is fixed.
fn sum_of_squares(x: &[f32]) -> f32 {
    let mut squares = [0.0; LANES];
    for chunk in x.chunks(LANES) {
        for (square, &x) in squares.iter_mut().zip(chunk) {
            *square += x * x;
        }
    }
    arch::sum(squares)
}
