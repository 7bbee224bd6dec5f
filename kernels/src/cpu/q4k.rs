//! Weights of 4 bits, as ggml's Q4_K has them.

use candle_core::quantized::GgmlDType;
use half::f16;

use super::k_quants::{bytes_of, input_of_byte, scales_and_mins, Bits, INPUTS};
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
pub(crate) struct Q4K {
    scale: [f16; COLUMNS],
    /// Negative, so that it is added.
    min: [f16; COLUMNS],
    scales: [[i8; COLUMNS]; GROUPS],
    mins: [[i8; COLUMNS]; GROUPS],
    numbers: Bits<32>,
}

impl Right for Q4K {
    const INPUTS: usize = INPUTS;
    const GROUP: usize = GROUP;
    type Shared<R: Register> = (R, R);

    #[inline(always)]
    unsafe fn shared<R: Register>(&self, group: usize, column: usize) -> (R, R) {
        // SAFETY: group and columns are within the arrays, as the caller promises.
        unsafe {
            let scale = R::load_f16(self.scale.as_ptr().add(column));
            let scales = self.scales.as_ptr().add(group).cast::<i8>();
            let min = R::load_f16(self.min.as_ptr().add(column));
            let mins = self.mins.as_ptr().add(group).cast::<i8>();
            (R::load_i8(scales.add(column)).times(scale), R::load_i8(mins.add(column)).times(min))
        }
    }

    #[inline(always)]
    unsafe fn load<R: Register>(&self, i: usize, column: usize, (scale, min): (R, R)) -> R {
        // SAFETY: i and the columns are within the arrays, as the caller promises.
        unsafe { min.plus_product(self.numbers.load(i, column), scale) }
    }

    #[inline(always)]
    fn number(&self, i: usize, column: usize) -> f32 {
        let scale = f32::from(self.scales[i / GROUP][column]) * self.scale[column].to_f32();
        let min = f32::from(self.mins[i / GROUP][column]) * self.min[column].to_f32();
        f32::from(self.numbers.get(i, column)) * scale + min
    }
}

impl Quantized for Q4K {
    const DTYPE: GgmlDType = GgmlDType::Q4K;
    /// Scale and minimum, those of the groups, numbers.
    const BYTES: usize = 2 + 2 + 12 + INPUTS / 2;
    const ZERO: Self = Self {
        scale: [f16::ZERO; COLUMNS],
        min: [f16::ZERO; COLUMNS],
        scales: [[0; COLUMNS]; GROUPS],
        mins: [[0; COLUMNS]; GROUPS],
        numbers: Bits::ZERO,
    };

    fn put(&mut self, column: usize, block: &[u8]) {
        let (both, numbers) = block.split_at(4);
        self.scale[column] = f16::from_le_bytes([both[0], both[1]]);
        self.min[column] = -f16::from_le_bytes([both[2], both[3]]);
        let (groups, numbers) = numbers.split_at(12);
        let (scales, mins) = scales_and_mins(groups);
        for group in 0..GROUPS {
            self.scales[group][column] = scales[group] as i8;
            self.mins[group][column] = mins[group] as i8;
        }
        for (at, &byte) in numbers.iter().enumerate() {
            let i = input_of_byte(at);
            self.numbers.put(i, column, byte & 15);
            self.numbers.put(i + GROUP, column, byte >> 4);
        }
    }

    fn append(&self, column: usize, bytes: &mut Vec<u8>) {
        bytes.extend(self.scale[column].to_le_bytes());
        bytes.extend((-self.min[column]).to_le_bytes());
        let of_column = |groups: &[[i8; COLUMNS]; GROUPS]| groups.map(|group| group[column] as u8);
        bytes.extend(bytes_of(of_column(&self.scales), of_column(&self.mins)));
        bytes.extend(
            (0..INPUTS / 2)
                .map(input_of_byte)
                .map(|i| self.numbers.get(i, column) | self.numbers.get(i + GROUP, column) << 4),
        );
    }
}
