//! Weights of 8 bits, as ggml's q8_0 has them.

use candle_core::{bail, Result};
use half::f16;

use super::outer::{Right, COLUMNS};
use super::register::Register;

/// Inputs that share a scale.
pub(crate) const INPUTS: usize = 32;

/// A block of q8_0 in memory: the scale, then one number per input.
const BYTES: usize = 2 + INPUTS;

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
    type Shared<R: Register> = R;

    #[inline(always)]
    unsafe fn shared<R: Register>(&self, column: usize) -> R {
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

/// Panels of a matrix `[outputs, inputs]` in ggml's order of bytes: per output one block after the
/// other.
pub(crate) fn pack(bytes: &[u8], outputs: usize, inputs: usize) -> Result<Vec<Q8>> {
    if !inputs.is_multiple_of(INPUTS) || bytes.len() != outputs * inputs / INPUTS * BYTES {
        bail!("{} bytes are no q8_0 matrix of [{outputs}, {inputs}]", bytes.len());
    }
    let per_output = inputs / INPUTS;
    let zero = Q8 { scales: [f16::ZERO; COLUMNS], numbers: [[0; COLUMNS]; INPUTS] };
    let mut panels = vec![zero; outputs.div_ceil(COLUMNS) * per_output];
    for (at, block) in bytes.as_chunks::<BYTES>().0.iter().enumerate() {
        let (output, piece) = (at / per_output, at % per_output);
        let to = &mut panels[output / COLUMNS * per_output + piece];
        let column = output % COLUMNS;
        to.scales[column] = f16::from_le_bytes([block[0], block[1]]);
        for (to, &number) in to.numbers.iter_mut().zip(&block[2..]) {
            to[column] = number as i8;
        }
    }
    Ok(panels)
}

/// The bytes that were packed.
pub(crate) fn unpack(panels: &[Q8], outputs: usize, inputs: usize) -> Vec<u8> {
    let per_output = inputs / INPUTS;
    let mut bytes = Vec::with_capacity(outputs * per_output * BYTES);
    for output in 0..outputs {
        let column = output % COLUMNS;
        for block in &panels[output / COLUMNS * per_output..][..per_output] {
            bytes.extend(block.scales[column].to_le_bytes());
            bytes.extend(block.numbers.iter().map(|numbers| numbers[column] as u8));
        }
    }
    bytes
}
