//! ggml's quantized weight types as packed rhs panels.
//!
//! A *quant block* is ggml's unit: consecutive inputs of one output that share a scale. A packed rhs element
//! interleaves the quant blocks of [`NR`](super::gemm::NR) outputs. A product is that of the dequantized weights with
//! f32 inputs, and the dequantized weights equal ggml's bit for bit. On AMX and AVX512-BF16, which multiply all
//! types but Q6_K, the scales of a group come last, which only rounds differently.

mod packed_bits;
mod q4_q5;
mod q4k_q5k;
mod q6k;
mod q8_0;

pub(crate) use q4_q5::{Q4_0, Q4_1, Q5_0, Q5_1};
pub(crate) use q4k_q5k::{Q4K, Q5K};
pub(crate) use q6k::Q6K;
pub(crate) use q8_0::Q8_0;

use candle_core::quantized::GgmlDType;

use super::gemm::PackedRhs;

/// Inputs of a quant block of the k-quants (Q4_K, Q5_K, Q6_K).
const K_QUANT_BLOCK: usize = 256;

/// [`NR`](super::gemm::NR) interleaved quant blocks of [`PackedRhs::DEPTH`] inputs.
pub(crate) trait Quantized: PackedRhs + Clone + Send + Sync + 'static {
    const DTYPE: GgmlDType;

    /// Bytes of a quant block.
    const BYTES: usize;

    /// All weights zero, before any quant block is inserted.
    const ZERO: Self;

    /// Inserts the quant block of `column`, which must still be zero.
    fn insert(&mut self, column: usize, block: &[u8]);

    /// Appends the bytes of the quant block of `column`: the inverse of [`insert`](Self::insert).
    fn extract(&self, column: usize, bytes: &mut Vec<u8>);
}

/// `for_quantized!(dtype, W => body)` evaluates `body` with `W` as the [`Quantized`] type of `dtype`. A dtype without
/// one is an error.
macro_rules! for_quantized {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype {
            candle_core::quantized::GgmlDType::Q8_0 => {
                type $type = $crate::cpu::quant::Q8_0;
                $body
            }
            candle_core::quantized::GgmlDType::Q4_0 => {
                type $type = $crate::cpu::quant::Q4_0;
                $body
            }
            candle_core::quantized::GgmlDType::Q4_1 => {
                type $type = $crate::cpu::quant::Q4_1;
                $body
            }
            candle_core::quantized::GgmlDType::Q5_0 => {
                type $type = $crate::cpu::quant::Q5_0;
                $body
            }
            candle_core::quantized::GgmlDType::Q5_1 => {
                type $type = $crate::cpu::quant::Q5_1;
                $body
            }
            candle_core::quantized::GgmlDType::Q4K => {
                type $type = $crate::cpu::quant::Q4K;
                $body
            }
            candle_core::quantized::GgmlDType::Q5K => {
                type $type = $crate::cpu::quant::Q5K;
                $body
            }
            candle_core::quantized::GgmlDType::Q6K => {
                type $type = $crate::cpu::quant::Q6K;
                $body
            }
            other => Err(candle_core::Error::Msg(format!(
                "weights of {other:?} are not supported: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q5K and \
                 Q6K are"
            ))),
        }
    };
}
pub(crate) use for_quantized;
