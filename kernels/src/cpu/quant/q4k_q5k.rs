//! ggml's Q4_K and Q5_K: 4 or 5 bits per weight, in groups with scales of their own.

use candle_core::quantized::GgmlDType;
use half::f16;

use super::packed_bits::PackedBits;
use super::{Quantized, K_QUANT_BLOCK as BLOCK};
use crate::cpu::arch::SimdVector;
use crate::cpu::gemm::{PackedRhs, TileOperand, NR};

/// Inputs that share a group scale and a group minimum.
const GROUP: usize = 32;

const GROUPS: usize = BLOCK / GROUP;

pub(crate) type Q4K = Q4Or5K<0>;
pub(crate) type Q5K = Q4Or5K<1>;

/// The quant blocks of [`NR`] outputs, interleaved. A weight is `number * scale - minimum`. Scale and minimum belong to
/// a group; each is a 6-bit number times an f16 of the whole quant block. Only the difference is rounded in f32, so a
/// fused multiply-add gives the same bits as a product and a sum. `FIFTH` is 1 if numbers have a fifth bit, else 0.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Q4Or5K<const FIFTH: usize> {
    scale: [f16; NR],
    /// Negated, so that it is added.
    min: [f16; NR],
    groups: [Group<FIFTH>; GROUPS],
}

/// One group. Its parts are contiguous, so a product reads memory sequentially.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Group<const FIFTH: usize> {
    scales: [i8; NR],
    mins: [i8; NR],
    numbers: PackedBits<4, 4>,
    fifth: PackedBits<1, FIFTH>,
}

impl<const FIFTH: usize> Group<FIFTH> {
    const ZERO: Self =
        Self { scales: [0; NR], mins: [0; NR], numbers: PackedBits::ZERO, fifth: PackedBits::ZERO };

    #[inline(always)]
    fn number(&self, depth: usize, column: usize) -> u8 {
        let number = self.numbers.get(depth, column);
        match FIFTH {
            0 => number,
            _ => number | self.fifth.get(depth, column) << 4,
        }
    }
}

impl<const FIFTH: usize> PackedRhs for Q4Or5K<FIFTH> {
    const DEPTH: usize = BLOCK;
    const GROUP: usize = GROUP;
    /// The numbers of one 4-bit word. A word of fifth bits has more, too many to unroll.
    const UNROLL: usize = 8;
    const FULL_MR: bool = true;
    type Scales<V: SimdVector> = (V, V);
    const TILE_OPERAND: TileOperand = TileOperand::Numbers { min: true };

    #[inline(always)]
    unsafe fn load_number<V: SimdVector>(&self, depth: usize, column: usize) -> V {
        // SAFETY: the caller keeps the depth and the columns within the arrays.
        unsafe {
            let group = self.groups.get_unchecked(depth / GROUP);
            let number: V = group.numbers.load(depth % GROUP, column);
            match FIFTH {
                0 => number,
                _ => number.add_product(group.fifth.load(depth % GROUP, column), V::splat(16.0)),
            }
        }
    }

    #[inline(always)]
    fn scale_and_min<V: SimdVector>((scale, min): (V, V)) -> (V, Option<V>) {
        (scale, Some(min))
    }

    #[inline(always)]
    unsafe fn load_scales<V: SimdVector>(&self, group: usize, column: usize) -> (V, V) {
        // SAFETY: the caller keeps the group and the columns within the arrays.
        unsafe {
            let group = self.groups.get_unchecked(group);
            let scale = V::load_f16(self.scale.as_ptr().add(column));
            let min = V::load_f16(self.min.as_ptr().add(column));
            (
                V::load_i8(group.scales.as_ptr().add(column)).mul(scale),
                V::load_i8(group.mins.as_ptr().add(column)).mul(min),
            )
        }
    }

    #[inline(always)]
    unsafe fn load<V: SimdVector>(&self, depth: usize, column: usize, (scale, min): (V, V)) -> V {
        // SAFETY: the caller keeps the depth and the columns within the arrays.
        unsafe { min.add_product(self.load_number(depth, column), scale) }
    }

    #[inline(always)]
    fn value(&self, depth: usize, column: usize) -> f32 {
        let group = &self.groups[depth / GROUP];
        let scale = f32::from(group.scales[column]) * self.scale[column].to_f32();
        let min = f32::from(group.mins[column]) * self.min[column].to_f32();
        f32::from(group.number(depth % GROUP, column)) * scale + min
    }
}

impl<const FIFTH: usize> Quantized for Q4Or5K<FIFTH> {
    const DTYPE: GgmlDType = if FIFTH == 0 { GgmlDType::Q4K } else { GgmlDType::Q5K };
    /// Scale, minimum, those of the groups, fifth bits, lower four bits.
    const BYTES: usize = 2 + 2 + 12 + FIFTH * 32 + BLOCK / 2;
    const ZERO: Self =
        Self { scale: [f16::ZERO; NR], min: [f16::ZERO; NR], groups: [Group::ZERO; GROUPS] };

    fn insert(&mut self, column: usize, block: &[u8]) {
        let (both, rest) = block.split_at(4);
        self.scale[column] = f16::from_le_bytes([both[0], both[1]]);
        self.min[column] = -f16::from_le_bytes([both[2], both[3]]);
        let (groups, rest) = rest.split_at(12);
        // Byte i of `fifth` has the fifth bit at depth i of every group, one group per bit.
        let (fifth, numbers) = rest.split_at(FIFTH * 32);
        let (scales, mins) = decode_scales_and_mins(groups);
        for (at, group) in self.groups.iter_mut().enumerate() {
            group.scales[column] = scales[at] as i8;
            group.mins[column] = mins[at] as i8;
            for depth in 0..GROUP {
                // Two groups share their bytes: the even one has the lower four bits.
                let number = numbers[at / 2 * GROUP + depth] >> (at % 2 * 4) & 15;
                group.numbers.set(depth, column, number);
                if let Some(fifth) = fifth.get(depth) {
                    group.fifth.set(depth, column, fifth >> at & 1);
                }
            }
        }
    }

    fn extract(&self, column: usize, bytes: &mut Vec<u8>) {
        bytes.extend(self.scale[column].to_le_bytes());
        bytes.extend((-self.min[column]).to_le_bytes());
        let scales = self.groups.map(|group| group.scales[column] as u8);
        bytes.extend(encode_scales_and_mins(
            scales,
            self.groups.map(|group| group.mins[column] as u8),
        ));
        for depth in 0..FIFTH * GROUP {
            let groups = self.groups.iter().rev();
            bytes.push(groups.fold(0, |byte, group| byte << 1 | group.fifth.get(depth, column)));
        }
        for [lower, upper] in self.groups.as_chunks().0 {
            let number = |group: &Group<FIFTH>, depth| group.numbers.get(depth, column);
            bytes.extend((0..GROUP).map(|depth| number(lower, depth) | number(upper, depth) << 4));
        }
    }
}

/// Decodes the scales and minima of the eight groups, 6 bits each, from the 12 bytes a Q4_K or Q5_K block stores them
/// in. Groups 0 to 3 have the lower 6 bits of a byte each: scales in bytes 0 to 3, minima in bytes 4 to 7. Groups 4 to
/// 7 have their lower 4 bits in bytes 8 to 11, scale and minimum in one byte, and their upper 2 bits in the upper bits
/// of bytes 0 to 7.
fn decode_scales_and_mins(bytes: &[u8]) -> ([u8; 8], [u8; 8]) {
    let both: [u8; 8] = std::array::from_fn(|at| bytes[at] & 63);
    let rest: [u8; 8] = std::array::from_fn(|at| bytes[at] >> 6 << 4);
    let scale = |group: usize| match group {
        0..4 => both[group],
        _ => bytes[group + 4] & 15 | rest[group - 4],
    };
    let min = |group: usize| match group {
        0..4 => both[group + 4],
        _ => bytes[group + 4] >> 4 | rest[group],
    };
    (std::array::from_fn(scale), std::array::from_fn(min))
}

/// The inverse of [`decode_scales_and_mins`].
fn encode_scales_and_mins(scales: [u8; 8], mins: [u8; 8]) -> [u8; 12] {
    std::array::from_fn(|at| match at {
        0..4 => scales[at] | scales[at + 4] >> 4 << 6,
        4..8 => mins[at - 4] | mins[at] >> 4 << 6,
        _ => scales[at - 4] & 15 | mins[at - 4] << 4,
    })
}
