//! The exponential function, in arithmetic that vectorizes.

use super::arch::Isa;

/// `e^x` with a relative error of about 1e-7: 0 below -87.3, where the result would be subnormal, and infinite above
/// 88.3. `exp(0)` is exactly 1, and NaN stays NaN.
///
/// With `x = n ln 2 + r`, n an integer and `|r| <= ln 2 / 2`, `e^x = 2^n e^r`. e^r is its Taylor series (the first
/// omitted term is below 1e-8), and 2^n is built from its bits.
#[inline(always)]
pub(crate) fn exp<I: Isa>(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: the first has so few bits that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let shifted = I::mul_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = I::mul_add(n, -LN2_LOW, I::mul_add(n, -LN2_HIGH, x));
    let mut series = 1.0 / 5040.0;
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = I::mul_add(series, r, term);
    }
    let exponent = (shifted.to_bits().wrapping_sub(ROUND.to_bits())).wrapping_add(127);
    let result = series * f32::from_bits(exponent << 23);
    let result = if x < -87.3 { 0.0 } else { result };
    if x > 88.3 {
        f32::INFINITY
    } else {
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "x86_64")]
    use crate::cpu::arch::Avx2 as Fused;
    #[cfg(target_arch = "aarch64")]
    use crate::cpu::arch::Neon as Fused;
    use crate::cpu::arch::Portable;

    /// The largest relative error; NaN if one of the results is NaN.
    fn worst_error(exp: fn(f32) -> f32) -> f64 {
        let steps = 400_000;
        (0..=steps)
            .map(|step| -87.25 + 175.5 * step as f32 / steps as f32)
            .map(|x| (f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs())
            // In this order NaN comes after all other absolute values. `f64::max` would skip it.
            .max_by(f64::total_cmp)
            .unwrap()
    }

    #[test]
    fn agrees_with_the_exponential_in_double_precision() {
        for exp in [exp::<Fused>, exp::<Portable>] {
            let error = worst_error(exp);
            assert!(error < 1.5e-7, "relative error {error:e}");
        }
    }

    #[test]
    fn a_result_that_is_nan_is_an_error() {
        let nan_at_one_point = |x: f32| if x == -87.25 { f32::NAN } else { x.exp() };
        assert!(worst_error(nan_at_one_point).is_nan());
    }

    #[test]
    fn special_values_are_exact() {
        for exp in [exp::<Fused>, exp::<Portable>] {
            assert_eq!(exp(0.0), 1.0);
            assert_eq!(exp(f32::NEG_INFINITY), 0.0);
            assert_eq!(exp(f32::INFINITY), f32::INFINITY);
            assert!(exp(f32::NAN).is_nan());
        }
    }
}
