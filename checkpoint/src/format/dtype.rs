//! Conversion between the dtypes of a checkpoint: F32, F16 and BF16, little-endian.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;

/// Whether weights of `dtype` are supported.
pub(crate) fn is_supported(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Appends the values in `bytes` to `out` as f32, which is exact for every dtype.
pub(crate) fn to_f32(dtype: Dtype, bytes: &[u8], out: &mut Vec<f32>) {
    match dtype {
        Dtype::F16 => {
            out.extend(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()))
        }
        Dtype::BF16 => {
            out.extend(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()))
        }
        _ => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
    }
}

/// Appends `values` to `out` in `dtype`, rounded to nearest, ties to even. Returns how many finite
/// values became infinite.
pub(crate) fn from_f32(values: &[f32], dtype: Dtype, out: &mut Vec<u8>) -> usize {
    match dtype {
        Dtype::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            out.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
            count_overflows(values, halves.iter().map(|half| half.is_infinite()))
        }
        Dtype::BF16 => {
            let mut halves = vec![bf16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            out.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
            count_overflows(values, halves.iter().map(|half| half.is_infinite()))
        }
        _ => {
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            0
        }
    }
}

fn count_overflows(values: &[f32], infinite: impl Iterator<Item = bool>) -> usize {
    values.iter().zip(infinite).filter(|(value, infinite)| *infinite && value.is_finite()).count()
}

/// The name of `dtype` in config.json.
pub(crate) fn torch_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
        _ => "float32",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(dtype: Dtype, value: f32) -> (f32, usize) {
        let (mut bytes, mut back) = (Vec::new(), Vec::new());
        let overflows = from_f32(&[value], dtype, &mut bytes);
        to_f32(dtype, &bytes, &mut back);
        (back[0], overflows)
    }

    #[test]
    fn ties_go_to_even() {
        // bf16 has 8 bits of significand: 257 lies between 256 and 258, 259 between 258 and 260.
        assert_eq!(round_trip(Dtype::BF16, 257.), (256., 0));
        assert_eq!(round_trip(Dtype::BF16, 259.), (260., 0));
        // f16 has 11.
        assert_eq!(round_trip(Dtype::F16, 2049.), (2048., 0));
        assert_eq!(round_trip(Dtype::F16, 2051.), (2052., 0));
        assert_eq!(round_trip(Dtype::F32, 2051.5), (2051.5, 0));
    }

    #[test]
    fn only_a_finite_value_overflows() {
        assert_eq!(round_trip(Dtype::F16, 65_519.), (65_504., 0));
        assert_eq!(round_trip(Dtype::F16, -65_520.), (f32::NEG_INFINITY, 1));
        assert_eq!(round_trip(Dtype::F16, f32::INFINITY), (f32::INFINITY, 0));
        assert_eq!(round_trip(Dtype::BF16, f32::MAX), (f32::INFINITY, 1));
        assert!(round_trip(Dtype::F16, f32::NAN).0.is_nan());
    }
}
