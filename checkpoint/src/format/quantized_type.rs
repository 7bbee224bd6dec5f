//! The quantized type of a matrix.

use candle_core::quantized::GgmlDType;

/// The type that a matrix of `inputs` columns is quantized to if `wanted` is asked for: `wanted`, or, if its quant blocks
/// do not divide the columns, the type with blocks of 32 that comes nearest. None: the matrix stays as it is.
///
/// For the types of colm's kernels, the host's own quantization makes the same choice.
pub fn quantized_type(wanted: GgmlDType, inputs: usize) -> Option<GgmlDType> {
    let smaller = match wanted {
        GgmlDType::Q4K => Some(GgmlDType::Q4_1),
        GgmlDType::Q5K => Some(GgmlDType::Q5_0),
        GgmlDType::Q6K => Some(GgmlDType::Q5_1),
        _ => None,
    };
    let suits = |dtype: &GgmlDType| inputs.is_multiple_of(dtype.block_size());
    [Some(wanted), smaller].into_iter().flatten().find(suits)
}

/// The bytes of a matrix `[outputs, inputs]` that is quantized as [`quantized_type`] says; None if it stays as it is.
pub fn quantized_bytes(wanted: GgmlDType, [outputs, inputs]: [usize; 2]) -> Option<u128> {
    let dtype = quantized_type(wanted, inputs)?;
    Some(outputs as u128 * (inputs / dtype.block_size() * dtype.type_size()) as u128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_width_that_does_not_suit_gets_another_type() {
        for (wanted, inputs, expected) in [
            (GgmlDType::Q4K, 512, Some(GgmlDType::Q4K)),
            (GgmlDType::Q4K, 96, Some(GgmlDType::Q4_1)),
            (GgmlDType::Q6K, 96, Some(GgmlDType::Q5_1)),
            (GgmlDType::Q8_0, 96, Some(GgmlDType::Q8_0)),
            (GgmlDType::Q8_0, 100, None),
            (GgmlDType::Q4K, 100, None),
        ] {
            assert_eq!(quantized_type(wanted, inputs), expected, "{wanted:?}, {inputs}");
        }
    }
}
