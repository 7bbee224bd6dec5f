//! ggml's Q4_0, Q4_1, Q5_0 and Q5_1: 4 or 5 bits per weight.

use candle_core::quantized::GgmlDType;
use half::f16;

use super::packed_bits::PackedBits;
use super::Quantized;
use crate::cpu::arch::SimdVector;
use crate::cpu::gemm::{PackedRhs, TileOperand, NR};

/// Inputs of a quant block. They share one scale.
const BLOCK: usize = 32;

pub(crate) type Q4_0 = Q4Or5<0, 0>;
pub(crate) type Q4_1 = Q4Or5<0, 1>;
pub(crate) type Q5_0 = Q4Or5<1, 0>;
pub(crate) type Q5_1 = Q4Or5<1, 1>;

/// The quant blocks of [`NR`] outputs, interleaved. A weight is `number * scale + minimum`; types without a minimum
/// have `-scale * MIDDLE` in its place. Only the sum is rounded in f32, so a fused multiply-add gives the same bits as
/// a product and a sum. `FIFTH` is 1 if numbers have a fifth bit, `MIN` is 1 if blocks have a minimum, else 0.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Q4Or5<const FIFTH: usize, const MIN: usize> {
    scale: [f16; NR],
    min: [[f16; NR]; MIN],
    numbers: PackedBits<4, 4>,
    fifth: PackedBits<1, FIFTH>,
}

impl<const FIFTH: usize, const MIN: usize> Q4Or5<FIFTH, MIN> {
    /// The number that encodes zero in types without a minimum.
    const MIDDLE: f32 = if FIFTH == 0 { 8.0 } else { 16.0 };

    /// The bits of the numbers at `depth`, as f32.
    ///
    /// # Safety
    /// As for [`PackedRhs::load`].
    #[inline(always)]
    unsafe fn load_bits<V: SimdVector>(&self, depth: usize, column: usize) -> V {
        // SAFETY: the caller upholds the contract above.
        unsafe {
            let number: V = self.numbers.load(depth, column);
            match FIFTH {
                0 => number,
                _ => number.add_product(self.fifth.load(depth, column), V::splat(16.0)),
            }
        }
    }

    fn bits(&self, depth: usize, column: usize) -> u8 {
        let number = self.numbers.get(depth, column);
        match FIFTH {
            0 => number,
            _ => number | self.fifth.get(depth, column) << 4,
        }
    }
}

impl<const FIFTH: usize, const MIN: usize> PackedRhs for Q4Or5<FIFTH, MIN> {
    const DEPTH: usize = BLOCK;
    const GROUP: usize = BLOCK;
    /// The numbers of one 4-bit word. A word of fifth bits has more, too many to unroll.
    const UNROLL: usize = 8;
    const FULL_MR: bool = false;
    /// The scale, and the weight that number 0 encodes.
    type Scales<V: SimdVector> = (V, V);
    const TILE_OPERAND: TileOperand = TileOperand::Numbers { min: MIN > 0 };

    /// In types without a minimum less [`Self::MIDDLE`].
    #[inline(always)]
    unsafe fn load_number<V: SimdVector>(&self, depth: usize, column: usize) -> V {
        // SAFETY: the caller keeps the depth and the columns within the arrays.
        unsafe {
            let number = self.load_bits::<V>(depth, column);
            match MIN {
                0 => number.add_product(V::splat(-1.0), V::splat(Self::MIDDLE)),
                _ => number,
            }
        }
    }

    #[inline(always)]
    fn scale_and_min<V: SimdVector>((scale, lowest): (V, V)) -> (V, Option<V>) {
        (scale, (MIN > 0).then_some(lowest))
    }

    #[inline(always)]
    unsafe fn load_scales<V: SimdVector>(&self, _group: usize, column: usize) -> (V, V) {
        // SAFETY: the caller keeps the columns within the arrays.
        unsafe {
            let scale = V::load_f16(self.scale.as_ptr().add(column));
            let lowest = match self.min.first() {
                Some(min) => V::load_f16(min.as_ptr().add(column)),
                None => scale.mul(V::splat(-Self::MIDDLE)),
            };
            (scale, lowest)
        }
    }

    #[inline(always)]
    unsafe fn load<V: SimdVector>(
        &self,
        depth: usize,
        column: usize,
        (scale, lowest): (V, V),
    ) -> V {
        // SAFETY: the caller keeps the depth and the columns within the arrays.
        unsafe { lowest.add_product(self.load_bits(depth, column), scale) }
    }

    #[inline(always)]
    fn value(&self, depth: usize, column: usize) -> f32 {
        let scale = self.scale[column].to_f32();
        let lowest = match self.min.first() {
            Some(min) => min[column].to_f32(),
            None => -Self::MIDDLE * scale,
        };
        f32::from(self.bits(depth, column)) * scale + lowest
    }
}

impl<const FIFTH: usize, const MIN: usize> Quantized for Q4Or5<FIFTH, MIN> {
    const DTYPE: GgmlDType = match (FIFTH, MIN) {
        (0, 0) => GgmlDType::Q4_0,
        (0, _) => GgmlDType::Q4_1,
        (_, 0) => GgmlDType::Q5_0,
        _ => GgmlDType::Q5_1,
    };
    /// Scale, minimum, fifth bits, lower four bits.
    const BYTES: usize = 2 + MIN * 2 + FIFTH * 4 + BLOCK / 2;
    const ZERO: Self = Self {
        scale: [f16::ZERO; NR],
        min: [[f16::ZERO; NR]; MIN],
        numbers: PackedBits::ZERO,
        fifth: PackedBits::ZERO,
    };

    fn insert(&mut self, column: usize, block: &[u8]) {
        let (scale, rest) = block.split_at(2);
        self.scale[column] = f16::from_le_bytes([scale[0], scale[1]]);
        let (min, rest) = rest.split_at(MIN * 2);
        for to in &mut self.min {
            to[column] = f16::from_le_bytes([min[0], min[1]]);
        }
        // Byte i of `numbers` has the number at depth i in its lower and that at depth i + 16 in its upper four bits.
        let (fifth, numbers) = rest.split_at(FIFTH * 4);
        for depth in 0..BLOCK {
            let number = numbers[depth % (BLOCK / 2)] >> (depth / (BLOCK / 2) * 4) & 15;
            self.numbers.set(depth, column, number);
            if let Some(fifth) = fifth.get(depth / 8) {
                self.fifth.set(depth, column, fifth >> (depth % 8) & 1);
            }
        }
    }

    fn extract(&self, column: usize, bytes: &mut Vec<u8>) {
        bytes.extend(self.scale[column].to_le_bytes());
        bytes.extend(self.min.iter().flat_map(|min| min[column].to_le_bytes()));
        for byte in 0..FIFTH * 4 {
            let bits = (0..8).rev().map(|bit| self.fifth.get(byte * 8 + bit, column));
            bytes.push(bits.fold(0, |byte, bit| byte << 1 | bit));
        }
        let number = |depth| self.numbers.get(depth, column);
        bytes.extend((0..BLOCK / 2).map(|depth| number(depth) | number(depth + BLOCK / 2) << 4));
    }
}
