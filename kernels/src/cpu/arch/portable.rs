//! Any processor, without intrinsics.

use super::Isa;
use crate::cpu::gemm::{check_micro_kernel, NrVector, PackedRhs};

/// Any processor. Multiply-add is rounded twice: where the processor has no fused instruction, `f32::mul_add` is a
/// library call per number.
pub(crate) struct Portable;

impl Isa for Portable {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    fn micro_kernel<W: PackedRhs, const DEPTH: usize>(
        lhs: &[[f32; DEPTH]],
        rhs: &[W],
        acc: &mut [NrVector],
    ) {
        check_micro_kernel(lhs, rhs, acc);
        for (lhs, acc) in lhs.iter().zip(acc) {
            for (lhs, rhs) in lhs.chunks(W::DEPTH).zip(rhs) {
                for (depth, &lhs) in lhs.iter().enumerate() {
                    for (column, acc) in acc.iter_mut().enumerate() {
                        *acc += lhs * rhs.value(depth, column);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn widen<W: PackedRhs>(rhs: &[W], to: &mut [NrVector]) {
        assert_eq!(to.len(), rhs.len() * W::DEPTH);
        for (rhs, to) in rhs.iter().zip(to.chunks_exact_mut(W::DEPTH)) {
            for (depth, to) in to.iter_mut().enumerate() {
                *to = std::array::from_fn(|column| rhs.value(depth, column));
            }
        }
    }
}
