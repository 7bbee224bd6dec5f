//! The gated activation of the MLP.

use candle_core::{bail, Result, Tensor};

use crate::cpu::arch::{self, Isa, IsaKernel};
use crate::cpu::exp::exp;
use crate::cpu::tensor_rows::{contiguous_rows, fill_rows};
use crate::cpu::{for_dtype, Element, TensorRows};

/// `silu(gate) * up`, element by element: the activation of the MLP (`docs/spec.md#layers`).
///
/// `gate` and `up` are `[rows, width]` of the same dtype: f32, bf16 or f16. Rows may be strided. Returns a contiguous
/// tensor of the same shape and dtype, computed in f32.
///
/// # Errors
/// If shapes or dtypes differ, or for another dtype.
pub fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.rank() != 2 || gate.dims() != up.dims() || gate.dtype() != up.dtype() {
        bail!(
            "gate and up must be [rows, width] of one shape and dtype, not {:?} of {:?} and {:?} of {:?}",
            gate.dims(),
            gate.dtype(),
            up.dims(),
            up.dtype()
        );
    }
    #[cfg(feature = "gpu")]
    if crate::cuda::accepts(gate) {
        return gate.silu()? * up;
    }
    for_dtype!(gate.dtype(), T => silu_mul_rows::<T>(gate, up))
}

fn silu_mul_rows<T: Element>(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let (gate, up) = (contiguous_rows(gate)?, contiguous_rows(up)?);
    let (gate_storage, gate_layout) = gate.storage_and_layout();
    let (up_storage, up_layout) = up.storage_and_layout();
    let gates = TensorRows::<T>::new(&gate_storage, gate_layout)?;
    let ups = TensorRows::<T>::new(&up_storage, up_layout)?;
    let width = gate.dim(1)?.max(1);
    let mut out = vec![T::zero(); gate.elem_count()];
    fill_rows(
        &mut out,
        width,
        || (),
        |_, row, out| {
            arch::run(SiluMul { gate: gates.row(row), up: ups.row(row), out });
        },
    );
    Tensor::from_vec(out, gate.dims(), gate.device())
}

struct SiluMul<'a, T> {
    gate: &'a [T],
    up: &'a [T],
    out: &'a mut [T],
}

impl<T: Element> IsaKernel for SiluMul<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        const CHUNK: usize = 64;
        let mut gates = [0.0; CHUNK];
        let mut ups = [0.0; CHUNK];
        for ((out, gate), up) in
            self.out.chunks_mut(CHUNK).zip(self.gate.chunks(CHUNK)).zip(self.up.chunks(CHUNK))
        {
            T::widen(gate, &mut gates[..gate.len()]);
            T::widen(up, &mut ups[..up.len()]);
            for (gate, &up) in gates.iter_mut().zip(&ups) {
                *gate = *gate / (1.0 + exp::<I>(-*gate)) * up;
            }
            for (out, &product) in out.iter_mut().zip(&gates) {
                *out = T::narrow(product);
            }
        }
    }
}
