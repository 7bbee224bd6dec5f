//! ggml's Q8_0: 8 bits per weight.

use candle_core::quantized::GgmlDType;
use half::f16;

use super::Quantized;
use crate::cpu::arch::SimdVector;
use crate::cpu::gemm::{PackedRhs, TileOperand, NR};

/// Inputs of a quant block. It starts with the scale they share; one byte per input follows.
const BLOCK: usize = 32;

/// The quant blocks of [`NR`] outputs, interleaved. A weight is `number * scale`, which is exact in f32.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Q8_0 {
    scales: [f16; NR],
    numbers: [[i8; NR]; BLOCK],
}

impl PackedRhs for Q8_0 {
    const DEPTH: usize = BLOCK;
    const GROUP: usize = BLOCK;
    const UNROLL: usize = 1;
    const FULL_MR: bool = true;
    const PREFETCH_DISTANCE: usize = 4096;
    const TILE_OPERAND: TileOperand = TileOperand::Numbers { min: false };
    type Scales<V: SimdVector> = V;

    #[inline(always)]
    unsafe fn load_number<V: SimdVector>(&self, depth: usize, column: usize) -> V {
        // SAFETY: the caller keeps the depth and the columns within the array.
        unsafe { V::load_i8(self.numbers.as_ptr().add(depth).cast::<i8>().add(column)) }
    }

    #[inline(always)]
    fn scale_and_min<V: SimdVector>(scale: V) -> (V, Option<V>) {
        (scale, None)
    }

    #[inline(always)]
    unsafe fn load_scales<V: SimdVector>(&self, _group: usize, column: usize) -> V {
        // SAFETY: the caller keeps the columns within the array.
        unsafe { V::load_f16(self.scales.as_ptr().add(column)) }
    }

    #[inline(always)]
    unsafe fn load<V: SimdVector>(&self, depth: usize, column: usize, scales: V) -> V {
        // SAFETY: the caller keeps the depth and the columns within the arrays.
        unsafe { self.load_number::<V>(depth, column).mul(scales) }
    }

    #[inline(always)]
    fn value(&self, depth: usize, column: usize) -> f32 {
        f32::from(self.numbers[depth][column]) * self.scales[column].to_f32()
    }
}

impl Quantized for Q8_0 {
    const DTYPE: GgmlDType = GgmlDType::Q8_0;
    const BYTES: usize = 2 + BLOCK;
    const ZERO: Self = Self { scales: [f16::ZERO; NR], numbers: [[0; NR]; BLOCK] };

    fn insert(&mut self, column: usize, block: &[u8]) {
        self.scales[column] = f16::from_le_bytes([block[0], block[1]]);
        for (to, &number) in self.numbers.iter_mut().zip(&block[2..]) {
            to[column] = number as i8;
        }
    }

    fn extract(&self, column: usize, bytes: &mut Vec<u8>) {
        bytes.extend(self.scales[column].to_le_bytes());
        bytes.extend(self.numbers.iter().map(|numbers| numbers[column] as u8));
    }
}
