//! Weights of 4 or 5 bits, as ggml's Q4_0, Q4_1, Q5_0 and Q5_1 have them.

use candle_core::quantized::GgmlDType;
use half::f16;

use super::k_quants::Bits;
use super::outer::{Right, COLUMNS};
use super::quantized::Quantized;
use super::register::Register;

/// Inputs of a block, which share a scale.
const INPUTS: usize = 32;

pub(crate) type Q4_0 = Q4Or5<0, 0>;
pub(crate) type Q4_1 = Q4Or5<0, 1>;
pub(crate) type Q5_0 = Q4Or5<1, 0>;
pub(crate) type Q5_1 = Q4Or5<1, 1>;

/// [`INPUTS`] inputs of [`COLUMNS`] outputs: a weight is its number times a scale, plus a minimum; without
/// one half of the numbers are below zero. All is exact in f32 but for the sum with a minimum, so a fused
/// multiply-add gives the same bits as a product and a sum. `FIFTH` is whether numbers have a fifth bit,
/// `MIN` whether there is a minimum: 0 or 1.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Q4Or5<const FIFTH: usize, const MIN: usize> {
    scale: [f16; COLUMNS],
    min: [[f16; COLUMNS]; MIN],
    numbers: Bits<4, 4>,
    fifth: Bits<1, FIFTH>,
}

impl<const FIFTH: usize, const MIN: usize> Q4Or5<FIFTH, MIN> {
    /// The number that means zero where there is no minimum.
    const MIDDLE: f32 = if FIFTH == 0 { 8.0 } else { 16.0 };

    fn bits(&self, i: usize, column: usize) -> u8 {
        let number = self.numbers.get(i, column);
        match FIFTH {
            0 => number,
            _ => number | self.fifth.get(i, column) << 4,
        }
    }
}

impl<const FIFTH: usize, const MIN: usize> Right for Q4Or5<FIFTH, MIN> {
    const INPUTS: usize = INPUTS;
    const GROUP: usize = INPUTS;
    /// The inputs of a word, but for those of fifth bits, which would be too many.
    const STEP: usize = 8;
    const MANY_ROWS: bool = false;
    /// The scale, and the weight whose number is 0.
    type Shared<R: Register> = (R, R);

    #[inline(always)]
    unsafe fn shared<R: Register>(&self, _group: usize, column: usize) -> (R, R) {
        // SAFETY: the columns are within the arrays, as the caller promises.
        unsafe {
            let scale = R::load_f16(self.scale.as_ptr().add(column));
            let lowest = match self.min.first() {
                Some(min) => R::load_f16(min.as_ptr().add(column)),
                None => scale.times(R::splat(-Self::MIDDLE)),
            };
            (scale, lowest)
        }
    }

    #[inline(always)]
    unsafe fn load<R: Register>(&self, i: usize, column: usize, (scale, lowest): (R, R)) -> R {
        // SAFETY: i and the columns are within the arrays, as the caller promises.
        unsafe {
            let number: R = self.numbers.load(i, column);
            let number = match FIFTH {
                0 => number,
                _ => number.plus_product(self.fifth.load(i, column), R::splat(16.0)),
            };
            lowest.plus_product(number, scale)
        }
    }

    #[inline(always)]
    fn number(&self, i: usize, column: usize) -> f32 {
        let scale = self.scale[column].to_f32();
        let lowest = match self.min.first() {
            Some(min) => min[column].to_f32(),
            None => -Self::MIDDLE * scale,
        };
        f32::from(self.bits(i, column)) * scale + lowest
    }
}

impl<const FIFTH: usize, const MIN: usize> Quantized for Q4Or5<FIFTH, MIN> {
    const DTYPE: GgmlDType = match (FIFTH, MIN) {
        (0, 0) => GgmlDType::Q4_0,
        (0, _) => GgmlDType::Q4_1,
        (_, 0) => GgmlDType::Q5_0,
        _ => GgmlDType::Q5_1,
    };
    /// Scale and minimum, fifth bits, the others.
    const BYTES: usize = 2 + MIN * 2 + FIFTH * 4 + INPUTS / 2;
    const ZERO: Self = Self {
        scale: [f16::ZERO; COLUMNS],
        min: [[f16::ZERO; COLUMNS]; MIN],
        numbers: Bits::ZERO,
        fifth: Bits::ZERO,
    };

    fn put(&mut self, column: usize, block: &[u8]) {
        let (scale, rest) = block.split_at(2);
        self.scale[column] = f16::from_le_bytes([scale[0], scale[1]]);
        let (min, rest) = rest.split_at(MIN * 2);
        for to in &mut self.min {
            to[column] = f16::from_le_bytes([min[0], min[1]]);
        }
        // A bit for each input, a byte for two: the one of the first half has its lower four bits.
        let (fifth, numbers) = rest.split_at(FIFTH * 4);
        for i in 0..INPUTS {
            let number = numbers[i % (INPUTS / 2)] >> (i / (INPUTS / 2) * 4) & 15;
            self.numbers.put(i, column, number);
            if let Some(fifth) = fifth.get(i / 8) {
                self.fifth.put(i, column, fifth >> (i % 8) & 1);
            }
        }
    }

    fn append(&self, column: usize, bytes: &mut Vec<u8>) {
        bytes.extend(self.scale[column].to_le_bytes());
        bytes.extend(self.min.iter().flat_map(|min| min[column].to_le_bytes()));
        for byte in 0..FIFTH * 4 {
            let bits = (0..8).rev().map(|bit| self.fifth.get(byte * 8 + bit, column));
            bytes.push(bits.fold(0, |byte, bit| byte << 1 | bit));
        }
        let number = |i| self.numbers.get(i, column);
        bytes.extend((0..INPUTS / 2).map(|i| number(i) | number(i + INPUTS / 2) << 4));
    }
}
