//! Weights that are NaN or infinite.

use safetensors::Dtype;

/// The values of a piece of weights that are not finite.
#[derive(Default)]
pub(super) struct NonFinite {
    pub nan: usize,
    pub infinite: usize,
    /// The index of the first such value.
    pub first: Option<usize>,
}

impl NonFinite {
    /// Counts the values in `bytes`, little-endian. A value is infinite if all exponent bits are set
    /// and all mantissa bits are clear, and NaN if a mantissa bit is set as well.
    pub fn count_in(dtype: Dtype, bytes: &[u8]) -> Self {
        match dtype {
            Dtype::F32 => {
                let (values, _) = bytes.as_chunks();
                Self::count(values, 0x7f80_0000, |value| u32::from_le_bytes(*value) & !(1 << 31))
            }
            Dtype::F16 => {
                let (values, _) = bytes.as_chunks();
                Self::count(values, 0x7c00, |value| u16::from_le_bytes(*value) & !(1 << 15))
            }
            _ => {
                let (values, _) = bytes.as_chunks();
                Self::count(values, 0x7f80, |value| u16::from_le_bytes(*value) & !(1 << 15))
            }
        }
    }

    fn count<V, B: Ord + Copy>(values: &[V], infinity: B, magnitude: impl Fn(&V) -> B) -> Self {
        // A first pass without branches. Nearly always it finds nothing.
        if !values.iter().fold(false, |any, value| any | (magnitude(value) >= infinity)) {
            return Self::default();
        }
        let count = |is: fn(&B, &B) -> bool| {
            values.iter().filter(|value| is(&magnitude(value), &infinity)).count()
        };
        Self {
            nan: count(B::gt),
            infinite: count(B::eq),
            first: values.iter().position(|value| magnitude(value) >= infinity),
        }
    }
}
