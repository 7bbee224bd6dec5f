//! The dtypes of tensors: f32, bf16 and f16.

use candle_core::backend::BackendStorage;
use candle_core::{bail, CpuStorage, Result, WithDType};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::arch::SimdVector;

/// A number in a tensor. Arithmetic is in f32.
pub(crate) trait Element: WithDType {
    /// `to[i] = from[i]`, for slices of equal length.
    fn widen(from: &[Self], to: &mut [f32]);

    /// Loads one vector from `from` on and converts it to f32.
    ///
    /// # Safety
    /// The contract of [`SimdVector`].
    unsafe fn load<V: SimdVector>(from: *const Self) -> V;

    /// Converts to f32.
    fn wide(self) -> f32 {
        let mut wide = [0.0];
        Self::widen(&[self], &mut wide);
        wide[0]
    }

    /// Rounds to the nearest number of this type.
    fn narrow(value: f32) -> Self;

    /// The numbers of a storage of this dtype.
    fn slice_mut(storage: &mut CpuStorage) -> Result<&mut [Self]>;
}

impl Element for f32 {
    #[inline(always)]
    fn widen(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }

    #[inline(always)]
    unsafe fn load<V: SimdVector>(from: *const f32) -> V {
        // SAFETY: the caller upholds the same contract.
        unsafe { V::load_f32(from) }
    }

    #[inline(always)]
    fn narrow(value: f32) -> f32 {
        value
    }

    fn slice_mut(storage: &mut CpuStorage) -> Result<&mut [f32]> {
        match storage {
            CpuStorage::F32(numbers) => Ok(numbers),
            other => bail!("expected a storage of f32, found {:?}", other.dtype()),
        }
    }
}

macro_rules! half_element {
    ($half:ty, $storage:ident, $widen:expr, $load:ident) => {
        impl Element for $half {
            #[inline(always)]
            fn widen(from: &[$half], to: &mut [f32]) {
                $widen(from, to);
            }

            #[inline(always)]
            unsafe fn load<V: SimdVector>(from: *const $half) -> V {
                // SAFETY: the caller upholds the same contract.
                unsafe { V::$load(from) }
            }

            #[inline(always)]
            fn narrow(value: f32) -> $half {
                <$half>::from_f32(value)
            }

            fn slice_mut(storage: &mut CpuStorage) -> Result<&mut [$half]> {
                match storage {
                    CpuStorage::$storage(numbers) => Ok(numbers),
                    other => bail!(
                        "expected a storage of {}, found {:?}",
                        stringify!($half),
                        other.dtype()
                    ),
                }
            }
        }
    };
}

half_element!(bf16, BF16, widen_bf16, load_bf16);
half_element!(f16, F16, <[f16]>::convert_to_f32_slice, load_f16);

/// bf16 is the upper half of an f32. The conversion of `half` handles NaN separately, which prevents vectorization.
#[inline(always)]
fn widen_bf16(from: &[bf16], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = f32::from_bits(u32::from(from.to_bits()) << 16);
    }
}

/// The nearest number that bf16 has, ties to even; NaN stays NaN. As [`bf16::from_f32`], but without branches, so that loops
/// are vectorized.
#[inline(always)]
pub(crate) fn round_to_bf16(number: f32) -> f32 {
    let bits = number.to_bits();
    let half = 0x7fff + (bits >> 16 & 1);
    let rounded = f32::from_bits(bits.wrapping_add(half) & 0xffff_0000);
    if number.is_nan() {
        f32::NAN
    } else {
        rounded
    }
}

/// `for_dtype!(dtype, T => body)` evaluates `body` with `T` as the Rust type of `dtype`. Any dtype other than f32, bf16
/// and f16 is an error.
macro_rules! for_dtype {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $type = f32;
                $body
            }
            candle_core::DType::BF16 => {
                type $type = half::bf16;
                $body
            }
            candle_core::DType::F16 => {
                type $type = half::f16;
                $body
            }
            other => Err(candle_core::Error::Msg(format!(
                "dtype {other:?} is not supported: f32, bf16 and f16 are"
            ))),
        }
    };
}
pub(crate) use for_dtype;
