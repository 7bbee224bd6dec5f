//! Weights as ggml quantizes them.

use candle_core::quantized::GgmlDType;

use super::outer::Right;

/// Weights of [`Right::INPUTS`] inputs, put together from ggml's blocks: for every output one, of
/// [`BYTES`](Self::BYTES) bytes. A product is one of the dequantized weights with f32 inputs; the
/// numbers are those that ggml gives, to the last bit.
pub(crate) trait Quantized: Right + Clone + Send + Sync + 'static {
    const DTYPE: GgmlDType;
    const BYTES: usize;

    /// Before any block is put in: all weights are zero.
    const ZERO: Self;

    /// Puts in the block of `column`, once.
    fn put(&mut self, column: usize, block: &[u8]);

    /// Appends the block that was put in.
    fn append(&self, column: usize, bytes: &mut Vec<u8>);
}

/// `for_quantized!(dtype, W => body)` is `body` with W standing for the [`Quantized`] type of `dtype`,
/// and an error for a dtype that has none.
macro_rules! for_quantized {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype {
            candle_core::quantized::GgmlDType::Q8_0 => {
                type $type = $crate::cpu::q8::Q8;
                $body
            }
            candle_core::quantized::GgmlDType::Q4_0 => {
                type $type = $crate::cpu::q4_q5::Q4_0;
                $body
            }
            candle_core::quantized::GgmlDType::Q4_1 => {
                type $type = $crate::cpu::q4_q5::Q4_1;
                $body
            }
            candle_core::quantized::GgmlDType::Q5_0 => {
                type $type = $crate::cpu::q4_q5::Q5_0;
                $body
            }
            candle_core::quantized::GgmlDType::Q5_1 => {
                type $type = $crate::cpu::q4_q5::Q5_1;
                $body
            }
            candle_core::quantized::GgmlDType::Q4K => {
                type $type = $crate::cpu::q4k_q5k::Q4K;
                $body
            }
            candle_core::quantized::GgmlDType::Q5K => {
                type $type = $crate::cpu::q4k_q5k::Q5K;
                $body
            }
            candle_core::quantized::GgmlDType::Q6K => {
                type $type = $crate::cpu::q6k::Q6K;
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
