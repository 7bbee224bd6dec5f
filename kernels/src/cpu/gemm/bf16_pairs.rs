//! bf16 weights as a packed rhs for AMX and AVX512-BF16.

use half::bf16;

use super::rhs::{PackedFloats, TileOperand};
use super::{PackedRhs, NR, TILE_DEPTH};
use crate::cpu::arch::SimdVector;

/// Pairs of a tile of AMX along the depth.
#[cfg(target_arch = "x86_64")]
pub(crate) const TILE_PAIRS: usize = TILE_DEPTH / Bf16Pairs::DEPTH;

/// The weights of [`NR`] columns at two consecutive depths, column by column. One vector of 32-bit words has both depths
/// of its columns, and it is the operand order of both.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Bf16Pairs(pub(crate) [[bf16; 2]; NR]);

impl PackedRhs for Bf16Pairs {
    const DEPTH: usize = 2;
    /// Whole tiles of AMX.
    const DEPTH_MULTIPLE: usize = TILE_DEPTH;
    const GROUP: usize = 2;
    const UNROLL: usize = 2;
    const FULL_MR: bool = false;
    const PREFETCH_DISTANCE: usize = 4096;
    const TILE_OPERAND: TileOperand = TileOperand::Weights;
    type Scales<V: SimdVector> = ();

    fn pairs(panel: &[Self]) -> &[Bf16Pairs] {
        panel
    }

    #[inline(always)]
    unsafe fn load_scales<V: SimdVector>(&self, _group: usize, _column: usize) {}

    unsafe fn load<V: SimdVector>(&self, _depth: usize, _column: usize, _scales: ()) -> V {
        unreachable!("AMX and AVX512-BF16 multiply pairs, not the micro-kernel")
    }

    #[inline(always)]
    fn value(&self, depth: usize, column: usize) -> f32 {
        self.0[column][depth].to_f32()
    }
}

impl PackedFloats for Bf16Pairs {
    type Number = bf16;

    fn zero() -> Self {
        Self([[bf16::ZERO; 2]; NR])
    }

    #[inline(always)]
    fn set(&mut self, depth: usize, column: usize, number: bf16) {
        self.0[column][depth] = number;
    }

    #[inline(always)]
    fn get(&self, depth: usize, column: usize) -> bf16 {
        self.0[column][depth]
    }
}
