//! Weights of 4 or 5 bits, as ggml's Q4_K and Q5_K have them.

use candle_core::quantized::GgmlDType;
use half::f16;

use super::k_quants::{Bits, INPUTS};
use super::outer::{Right, COLUMNS};
use super::quantized::Quantized;
use super::register::Register;

/// Inputs that share a scale and a minimum.
const GROUP: usize = 32;

const GROUPS: usize = INPUTS / GROUP;

pub(crate) type Q4K = Q4Or5K<0>;
pub(crate) type Q5K = Q4Or5K<1>;

/// [`INPUTS`] inputs of [`COLUMNS`] outputs: a weight is its number times a scale, less a minimum.
/// Both belong to a group of inputs and are a number of 6 bits times one of the whole block. All is
/// exact in f32 but for the difference, so a fused multiply-add gives the same bits as a product and
/// a sum. `FIFTH` is whether numbers have a fifth bit, 0 or 1.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Q4Or5K<const FIFTH: usize> {
    scale: [f16; COLUMNS],
    /// Negative, so that it is added.
    min: [f16; COLUMNS],
    groups: [Group<FIFTH>; GROUPS],
}

/// What belongs to a group stands together: a product reads memory from end to end.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Group<const FIFTH: usize> {
    scales: [i8; COLUMNS],
    mins: [i8; COLUMNS],
    numbers: Bits<4, 4>,
    fifth: Bits<1, FIFTH>,
}

impl<const FIFTH: usize> Group<FIFTH> {
    const ZERO: Self =
        Self { scales: [0; COLUMNS], mins: [0; COLUMNS], numbers: Bits::ZERO, fifth: Bits::ZERO };

    #[inline(always)]
    fn number(&self, i: usize, column: usize) -> u8 {
        let number = self.numbers.get(i, column);
        match FIFTH {
            0 => number,
            _ => number | self.fifth.get(i, column) << 4,
        }
    }
}

impl<const FIFTH: usize> Right for Q4Or5K<FIFTH> {
    const INPUTS: usize = INPUTS;
    const GROUP: usize = GROUP;
    /// The inputs of a word, but for those of fifth bits, which would be too many.
    const STEP: usize = 8;
    const MANY_ROWS: bool = true;
    type Shared<R: Register> = (R, R);

    #[inline(always)]
    unsafe fn shared<R: Register>(&self, group: usize, column: usize) -> (R, R) {
        // SAFETY: group and columns are within the arrays, as the caller promises.
        unsafe {
            let group = self.groups.get_unchecked(group);
            let scale = R::load_f16(self.scale.as_ptr().add(column));
            let min = R::load_f16(self.min.as_ptr().add(column));
            (
                R::load_i8(group.scales.as_ptr().add(column)).times(scale),
                R::load_i8(group.mins.as_ptr().add(column)).times(min),
            )
        }
    }

    #[inline(always)]
    unsafe fn load<R: Register>(&self, i: usize, column: usize, (scale, min): (R, R)) -> R {
        // SAFETY: i and the columns are within the arrays, as the caller promises.
        unsafe {
            let group = self.groups.get_unchecked(i / GROUP);
            let number: R = group.numbers.load(i % GROUP, column);
            let number = match FIFTH {
                0 => number,
                _ => number.plus_product(group.fifth.load(i % GROUP, column), R::splat(16.0)),
            };
            min.plus_product(number, scale)
        }
    }

    #[inline(always)]
    fn number(&self, i: usize, column: usize) -> f32 {
        let group = &self.groups[i / GROUP];
        let scale = f32::from(group.scales[column]) * self.scale[column].to_f32();
        let min = f32::from(group.mins[column]) * self.min[column].to_f32();
        f32::from(group.number(i % GROUP, column)) * scale + min
    }
}

impl<const FIFTH: usize> Quantized for Q4Or5K<FIFTH> {
    const DTYPE: GgmlDType = if FIFTH == 0 { GgmlDType::Q4K } else { GgmlDType::Q5K };
    /// Scale and minimum, those of the groups, fifth bits, the others.
    const BYTES: usize = 2 + 2 + 12 + FIFTH * 32 + INPUTS / 2;
    const ZERO: Self = Self {
        scale: [f16::ZERO; COLUMNS],
        min: [f16::ZERO; COLUMNS],
        groups: [Group::ZERO; GROUPS],
    };

    fn put(&mut self, column: usize, block: &[u8]) {
        let (both, rest) = block.split_at(4);
        self.scale[column] = f16::from_le_bytes([both[0], both[1]]);
        self.min[column] = -f16::from_le_bytes([both[2], both[3]]);
        let (groups, rest) = rest.split_at(12);
        // A byte has one bit for each group.
        let (fifth, numbers) = rest.split_at(FIFTH * 32);
        let (scales, mins) = scales_and_mins(groups);
        for (at, group) in self.groups.iter_mut().enumerate() {
            group.scales[column] = scales[at] as i8;
            group.mins[column] = mins[at] as i8;
            for i in 0..GROUP {
                // Two groups have their bytes together.
                let number = numbers[at / 2 * GROUP + i] >> (at % 2 * 4) & 15;
                group.numbers.put(i, column, number);
                if let Some(fifth) = fifth.get(i) {
                    group.fifth.put(i, column, fifth >> at & 1);
                }
            }
        }
    }

    fn append(&self, column: usize, bytes: &mut Vec<u8>) {
        bytes.extend(self.scale[column].to_le_bytes());
        bytes.extend((-self.min[column]).to_le_bytes());
        let scales = self.groups.map(|group| group.scales[column] as u8);
        bytes.extend(bytes_of(scales, self.groups.map(|group| group.mins[column] as u8)));
        for i in 0..FIFTH * GROUP {
            let groups = self.groups.iter().rev();
            bytes.push(groups.fold(0, |byte, group| byte << 1 | group.fifth.get(i, column)));
        }
        for [lower, upper] in self.groups.as_chunks().0 {
            let number = |group: &Group<FIFTH>, i| group.numbers.get(i, column);
            bytes.extend((0..GROUP).map(|i| number(lower, i) | number(upper, i) << 4));
        }
    }
}

/// From the 12 bytes that a Q4_K or Q5_K block has for them, the scales and minima of its eight groups,
/// 6 bits each. The first four of
/// both have a byte each; the last four of both share a byte for their lower halves, and the upper two
/// bits of the first bytes have the rest.
fn scales_and_mins(bytes: &[u8]) -> ([u8; 8], [u8; 8]) {
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

/// The bytes that [`scales_and_mins`] reads.
fn bytes_of(scales: [u8; 8], mins: [u8; 8]) -> [u8; 12] {
    std::array::from_fn(|at| match at {
        0..4 => scales[at] | scales[at + 4] >> 4 << 6,
        4..8 => mins[at - 4] | mins[at] >> 4 << 6,
        _ => scales[at - 4] & 15 | mins[at - 4] << 4,
    })
}
