//! Weights of 8 bits, as ggml's q8_0 has them.

use candle_core::quantized::GgmlDType;
use half::f16;

use super::outer::{Right, COLUMNS};
use super::quantized::Quantized;
use super::register::Register;

/// Inputs that share a scale. In ggml's block the scale comes first, then one number per input.
const INPUTS: usize = 32;

/// [`INPUTS`] inputs of [`COLUMNS`] outputs: a weight is its number times the scale of its output.
/// The product of the two is exact in f32, so sums are those of the dequantized weights.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Q8 {
    scales: [f16; COLUMNS],
    numbers: [[i8; COLUMNS]; INPUTS],
}

impl Right for Q8 {
    const INPUTS: usize = INPUTS;
    const GROUP: usize = INPUTS;
    const STEP: usize = 1;
    const MANY_ROWS: bool = true;
    type Shared<R: Register> = R;

    #[inline(always)]
    unsafe fn shared<R: Register>(&self, _group: usize, column: usize) -> R {
        // SAFETY: the columns are within the array, as the caller promises.
        unsafe { R::load_f16(self.scales.as_ptr().add(column)) }
    }

    #[inline(always)]
    unsafe fn load<R: Register>(&self, i: usize, column: usize, scales: R) -> R {
        // SAFETY: i and the columns are within the arrays, as the caller promises.
        unsafe { R::load_i8(self.numbers.as_ptr().add(i).cast::<i8>().add(column)).times(scales) }
    }

    #[inline(always)]
    fn number(&self, i: usize, column: usize) -> f32 {
        f32::from(self.numbers[i][column]) * self.scales[column].to_f32()
    }
}

impl Quantized for Q8 {
    const DTYPE: GgmlDType = GgmlDType::Q8_0;
    const BYTES: usize = 2 + INPUTS;
    const ZERO: Self = Self { scales: [f16::ZERO; COLUMNS], numbers: [[0; COLUMNS]; INPUTS] };

    fn put(&mut self, column: usize, block: &[u8]) {
        self.scales[column] = f16::from_le_bytes([block[0], block[1]]);
        for (to, &number) in self.numbers.iter_mut().zip(&block[2..]) {
            to[column] = number as i8;
        }
    }

    fn append(&self, column: usize, bytes: &mut Vec<u8>) {
        bytes.extend(self.scales[column].to_le_bytes());
        bytes.extend(self.numbers.iter().map(|numbers| numbers[column] as u8));
    }
}
