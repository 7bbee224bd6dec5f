//! ggml's Q6_K: 6 bits per weight.

use candle_core::quantized::GgmlDType;
use half::f16;

use super::packed_bits::PackedBits;
use super::{Quantized, K_QUANT_BLOCK as BLOCK};
use crate::cpu::arch::SimdVector;
use crate::cpu::gemm::{PackedRhs, NR};

/// Inputs that share a group scale.
const GROUP: usize = 16;

const GROUPS: usize = BLOCK / GROUP;

/// The number that encodes a weight of zero.
const ZERO: f32 = 32.0;

/// The quant blocks of [`NR`] outputs, interleaved. A weight is `(number - ZERO) * scale`. The scale is an 8-bit number
/// of the group times an f16 of the whole quant block. All of this is exact in f32.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Q6K {
    scale: [f16; NR],
    groups: [Group; GROUPS],
}

/// One group. Its parts are contiguous, so a product reads memory sequentially.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Group {
    scales: [i8; NR],
    lower: PackedBits<4, 2>,
    upper: PackedBits<2, 1>,
}

impl PackedRhs for Q6K {
    const DEPTH: usize = BLOCK;
    const GROUP: usize = GROUP;
    /// The numbers of one word of `upper`.
    const UNROLL: usize = 16;
    const FULL_MR: bool = true;
    /// The scale, and the weight that number 0 encodes.
    type Scales<V: SimdVector> = (V, V);

    #[inline(always)]
    unsafe fn load_scales<V: SimdVector>(&self, group: usize, column: usize) -> (V, V) {
        // SAFETY: the caller keeps the group and the columns within the arrays.
        unsafe {
            let scales = self.groups.get_unchecked(group).scales.as_ptr().add(column);
            let scale = V::load_i8(scales).mul(V::load_f16(self.scale.as_ptr().add(column)));
            (scale, scale.mul(V::splat(-ZERO)))
        }
    }

    #[inline(always)]
    unsafe fn load<V: SimdVector>(&self, depth: usize, column: usize, (scale, zero): (V, V)) -> V {
        // SAFETY: the caller keeps the depth and the columns within the arrays.
        unsafe {
            let group = self.groups.get_unchecked(depth / GROUP);
            let lower: V = group.lower.load(depth % GROUP, column);
            let upper: V = group.upper.load(depth % GROUP, column);
            zero.add_product(lower.add_product(upper, V::splat(16.0)), scale)
        }
    }

    #[inline(always)]
    fn value(&self, depth: usize, column: usize) -> f32 {
        let group = &self.groups[depth / GROUP];
        let scale = f32::from(group.scales[column]) * self.scale[column].to_f32();
        let number =
            group.lower.get(depth % GROUP, column) | group.upper.get(depth % GROUP, column) << 4;
        (f32::from(number) - ZERO) * scale
    }
}

/// Offset of the group scales in a quant block. The numbers precede them, the block scale follows.
const SCALES: usize = BLOCK / 2 + BLOCK / 4;

/// `(byte, shift)` of the lower four bits of the number at `depth` in a quant block, and of its upper two bits.
fn bit_positions(depth: usize) -> ((usize, usize), (usize, usize)) {
    let (half, quarter, at) = (depth / 128, depth / 32 % 4, depth % 32);
    let lower = (half * 64 + quarter % 2 * 32 + at, quarter / 2 * 4);
    (lower, (BLOCK / 2 + half * 32 + at, quarter * 2))
}

impl Quantized for Q6K {
    const DTYPE: GgmlDType = GgmlDType::Q6K;
    const BYTES: usize = SCALES + GROUPS + 2;
    const ZERO: Self = Self {
        scale: [f16::ZERO; NR],
        groups: [Group { scales: [0; NR], lower: PackedBits::ZERO, upper: PackedBits::ZERO };
            GROUPS],
    };

    fn insert(&mut self, column: usize, block: &[u8]) {
        let (scales, scale) = block[SCALES..].split_at(GROUPS);
        self.scale[column] = f16::from_le_bytes([scale[0], scale[1]]);
        for (at, group) in self.groups.iter_mut().enumerate() {
            group.scales[column] = scales[at] as i8;
            for depth in 0..GROUP {
                let (lower, upper) = bit_positions(at * GROUP + depth);
                group.lower.set(depth, column, block[lower.0] >> lower.1 & 15);
                group.upper.set(depth, column, block[upper.0] >> upper.1 & 3);
            }
        }
    }

    fn extract(&self, column: usize, bytes: &mut Vec<u8>) {
        let mut block = [0; Self::BYTES];
        for (at, group) in self.groups.iter().enumerate() {
            block[SCALES + at] = group.scales[column] as u8;
            for depth in 0..GROUP {
                let (lower, upper) = bit_positions(at * GROUP + depth);
                block[lower.0] |= group.lower.get(depth, column) << lower.1;
                block[upper.0] |= group.upper.get(depth, column) << upper.1;
            }
        }
        block[SCALES + GROUPS..].copy_from_slice(&self.scale[column].to_le_bytes());
        bytes.extend(block);
    }
}
