//! Weights of 4 bits, as ggml's Q4_K has them.

use candle_core::quantized::GgmlDType;
use half::f16;

use super::k_quants::{bytes_of, half_byte, scales_and_mins, Bits, INPUTS};
use super::outer::{Right, COLUMNS};
use super::quantized::Quantized;
use super::register::Register;

/// Inputs that share a scale and a minimum.
const GROUP: usize = 32;

const GROUPS: usize = INPUTS / GROUP;

/// [`INPUTS`] inputs of [`COLUMNS`] outputs: a weight is its number times a scale, less a minimum.
/// Both belong to a group of inputs and are a number of 6 bits times one of the whole block. All is
/// exact in f32 but for the difference, so a fused multiply-add gives the same bits as a product and
/// a sum.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Q4K {
    scale: [f16; COLUMNS],
    /// Negative, so that it is added.
    min: [f16; COLUMNS],
    groups: [Group; GROUPS],
}

/// What belongs to a group stands together: a product reads memory from end to end.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Group {
    scales: [i8; COLUMNS],
    mins: [i8; COLUMNS],
    numbers: Bits<4, 4>,
}

impl Group {
    const ZERO: Self = Self { scales: [0; COLUMNS], mins: [0; COLUMNS], numbers: Bits::ZERO };
}

impl Right for Q4K {
    const INPUTS: usize = INPUTS;
    const GROUP: usize = GROUP;
    const STEP: usize = 8;
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
            min.plus_product(group.numbers.load(i % GROUP, column), scale)
        }
    }

    #[inline(always)]
    fn number(&self, i: usize, column: usize) -> f32 {
        let group = &self.groups[i / GROUP];
        let scale = f32::from(group.scales[column]) * self.scale[column].to_f32();
        let min = f32::from(group.mins[column]) * self.min[column].to_f32();
        f32::from(group.numbers.get(i % GROUP, column)) * scale + min
    }
}

impl Quantized for Q4K {
    const DTYPE: GgmlDType = GgmlDType::Q4K;
    /// Scale and minimum, those of the groups, numbers.
    const BYTES: usize = 2 + 2 + 12 + INPUTS / 2;
    const ZERO: Self = Self {
        scale: [f16::ZERO; COLUMNS],
        min: [f16::ZERO; COLUMNS],
        groups: [Group::ZERO; GROUPS],
    };

    fn put(&mut self, column: usize, block: &[u8]) {
        let (both, rest) = block.split_at(4);
        self.scale[column] = f16::from_le_bytes([both[0], both[1]]);
        self.min[column] = -f16::from_le_bytes([both[2], both[3]]);
        let (groups, numbers) = rest.split_at(12);
        let (scales, mins) = scales_and_mins(groups);
        for (at, group) in self.groups.iter_mut().enumerate() {
            group.scales[column] = scales[at] as i8;
            group.mins[column] = mins[at] as i8;
            for i in 0..GROUP {
                group.numbers.put(i, column, half_byte(numbers, at, i));
            }
        }
    }

    fn append(&self, column: usize, bytes: &mut Vec<u8>) {
        bytes.extend(self.scale[column].to_le_bytes());
        bytes.extend((-self.min[column]).to_le_bytes());
        let scales = self.groups.map(|group| group.scales[column] as u8);
        bytes.extend(bytes_of(scales, self.groups.map(|group| group.mins[column] as u8)));
        for [lower, upper] in self.groups.as_chunks().0 {
            let number = |group: &Group, i| group.numbers.get(i, column);
            bytes.extend((0..GROUP).map(|i| number(lower, i) | number(upper, i) << 4));
        }
    }
}
