//! Weights of 6 bits, as ggml's Q6_K has them.

use candle_core::quantized::GgmlDType;
use half::f16;

use super::k_quants::{Bits, INPUTS};
use super::outer::{Right, COLUMNS};
use super::quantized::Quantized;
use super::register::Register;

/// Inputs that share a scale.
const GROUP: usize = 16;

const GROUPS: usize = INPUTS / GROUP;

/// A weight is 32 less than its number, times the scale.
const ZERO: f32 = 32.0;

/// [`INPUTS`] inputs of [`COLUMNS`] outputs: a weight is its number, less [`ZERO`], times a scale, which
/// is a number of 8 bits of its group times one of the whole block. All of this is exact in f32.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Q6K {
    scale: [f16; COLUMNS],
    groups: [Group; GROUPS],
}

/// What belongs to a group stands together: a product reads memory from end to end.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Group {
    scales: [i8; COLUMNS],
    lower: Bits<4, 2>,
    upper: Bits<2, 1>,
}

impl Right for Q6K {
    const INPUTS: usize = INPUTS;
    const GROUP: usize = GROUP;
    /// The inputs of a word of `upper`.
    const STEP: usize = 16;
    const MANY_ROWS: bool = true;
    /// The scale, and the weight whose number is 0.
    type Shared<R: Register> = (R, R);

    #[inline(always)]
    unsafe fn shared<R: Register>(&self, group: usize, column: usize) -> (R, R) {
        // SAFETY: group and columns are within the arrays, as the caller promises.
        unsafe {
            let scales = self.groups.get_unchecked(group).scales.as_ptr().add(column);
            let scale = R::load_i8(scales).times(R::load_f16(self.scale.as_ptr().add(column)));
            (scale, scale.times(R::splat(-ZERO)))
        }
    }

    #[inline(always)]
    unsafe fn load<R: Register>(&self, i: usize, column: usize, (scale, zero): (R, R)) -> R {
        // SAFETY: i and the columns are within the arrays, as the caller promises.
        unsafe {
            let group = self.groups.get_unchecked(i / GROUP);
            let lower: R = group.lower.load(i % GROUP, column);
            let upper: R = group.upper.load(i % GROUP, column);
            zero.plus_product(lower.plus_product(upper, R::splat(16.0)), scale)
        }
    }

    #[inline(always)]
    fn number(&self, i: usize, column: usize) -> f32 {
        let group = &self.groups[i / GROUP];
        let scale = f32::from(group.scales[column]) * self.scale[column].to_f32();
        let number = group.lower.get(i % GROUP, column) | group.upper.get(i % GROUP, column) << 4;
        (f32::from(number) - ZERO) * scale
    }
}

/// Where a block has the scales of the groups; before them are the numbers, after them the scale.
const SCALES: usize = INPUTS / 2 + INPUTS / 4;

/// Of a block the byte with the lower four bits of the number of i, and how far they are to be shifted;
/// and the same for the upper two bits.
fn places(i: usize) -> ((usize, usize), (usize, usize)) {
    let (half, quarter, at) = (i / 128, i / 32 % 4, i % 32);
    let lower = (half * 64 + quarter % 2 * 32 + at, quarter / 2 * 4);
    (lower, (INPUTS / 2 + half * 32 + at, quarter * 2))
}

impl Quantized for Q6K {
    const DTYPE: GgmlDType = GgmlDType::Q6K;
    const BYTES: usize = SCALES + GROUPS + 2;
    const ZERO: Self = Self {
        scale: [f16::ZERO; COLUMNS],
        groups: [Group { scales: [0; COLUMNS], lower: Bits::ZERO, upper: Bits::ZERO }; GROUPS],
    };

    fn put(&mut self, column: usize, block: &[u8]) {
        let (scales, scale) = block[SCALES..].split_at(GROUPS);
        self.scale[column] = f16::from_le_bytes([scale[0], scale[1]]);
        for (at, group) in self.groups.iter_mut().enumerate() {
            group.scales[column] = scales[at] as i8;
            for i in 0..GROUP {
                let (lower, upper) = places(at * GROUP + i);
                group.lower.put(i, column, block[lower.0] >> lower.1 & 15);
                group.upper.put(i, column, block[upper.0] >> upper.1 & 3);
            }
        }
    }

    fn append(&self, column: usize, bytes: &mut Vec<u8>) {
        let mut block = [0; Self::BYTES];
        for (at, group) in self.groups.iter().enumerate() {
            block[SCALES + at] = group.scales[column] as u8;
            for i in 0..GROUP {
                let (lower, upper) = places(at * GROUP + i);
                block[lower.0] |= group.lower.get(i, column) << lower.1;
                block[upper.0] |= group.upper.get(i, column) << upper.1;
            }
        }
        block[SCALES + GROUPS..].copy_from_slice(&self.scale[column].to_le_bytes());
        bytes.extend(block);
    }
}
