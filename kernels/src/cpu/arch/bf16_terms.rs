//! f32 numbers as sums of bf16 numbers, the lhs operand of AMX and AVX512-BF16. On AVX-512 with BW, which every
//! processor with either has.

use std::arch::x86_64::*;

use super::{sum, Lanes};
use crate::cpu::gemm::split_lhs::TileRow;
use crate::cpu::gemm::TILE_DEPTH;

/// Terms below this, 2^-110, are zero. Sums of products with integers are then zero or large enough that they are no
/// subnormal numbers, which AMX replaces by zero and multiply-adds do not.
const SMALLEST_TERM: f32 = f32::from_bits((127 - 110) << 23);

/// Writes `TERMS` bf16 numbers per number, a tile row of each term, to `to` and the rows `stride` and `2 * stride` after it.
/// Three add up to the number except for terms below [`SMALLEST_TERM`]; those of an infinite number add up to NaN. One is the
/// number rounded to nearest. Returns the sum of all if `SUM`, else 0.
///
/// # Safety
/// The processor must have AVX-512 with BW, and the rows must be writable.
#[inline(always)]
pub(crate) unsafe fn write_terms<const TERMS: usize, const SUM: bool>(
    numbers: &[f32; TILE_DEPTH],
    to: *mut TileRow,
    stride: usize,
) -> f32 {
    // SAFETY: the caller guarantees the instructions and the rows, and both halves are within the array.
    let lanes = unsafe {
        let mut lower = _mm512_loadu_ps(numbers.as_ptr());
        let mut upper = _mm512_loadu_ps(numbers.as_ptr().add(16));
        let may_be_small = has_small_terms(lower) | has_small_terms(upper);
        // Exact, because the bits of the terms do not overlap.
        let (mut lower_sum, mut upper_sum) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        // Unrolled by hand: each row is stored from a register, not copied in halves.
        macro_rules! write_term {
            ($term:literal) => {
                let (mut lower_term, mut upper_term) = if TERMS == 1 {
                    (round_to_bf16(lower), round_to_bf16(upper))
                } else {
                    (upper_bits(lower), upper_bits(upper))
                };
                lower = _mm512_sub_ps(lower, lower_term);
                upper = _mm512_sub_ps(upper, upper_term);
                if may_be_small {
                    lower_term = zero_if_small(lower_term);
                    upper_term = zero_if_small(upper_term);
                }
                if SUM {
                    lower_sum = _mm512_add_ps(lower_sum, lower_term);
                    upper_sum = _mm512_add_ps(upper_sum, upper_term);
                }
                let row = to_bf16(lower_term, upper_term);
                _mm512_storeu_si512(to.add($term * stride).cast(), row);
            };
        }
        const { assert!(TERMS == 1 || TERMS == 3) };
        write_term!(0);
        if TERMS == 3 {
            write_term!(1);
            write_term!(2);
        }
        let _ = (lower, upper);
        std::mem::transmute::<__m512, Lanes>(_mm512_add_ps(lower_sum, upper_sum))
    };
    if SUM {
        sum(lanes)
    } else {
        0.0
    }
}

/// Whether a number may have a term below [`SMALLEST_TERM`] that is not zero: the last of its 24 bits is one.
///
/// # Safety
/// As for [`write_terms`].
#[inline(always)]
unsafe fn has_small_terms(numbers: __m512) -> bool {
    // SAFETY: the caller guarantees the instructions.
    unsafe {
        let limit = _mm512_set1_ps(SMALLEST_TERM * (1 << 23) as f32);
        let small = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_abs_ps(numbers), limit);
        _mm512_mask_cmp_ps_mask::<_CMP_NEQ_OQ>(small, numbers, _mm512_setzero_ps()) != 0
    }
}

/// Numbers with zeros in place of those below [`SMALLEST_TERM`]. NaN is kept.
///
/// # Safety
/// As for [`write_terms`].
#[inline(always)]
unsafe fn zero_if_small(numbers: __m512) -> __m512 {
    // SAFETY: the caller guarantees the instructions.
    unsafe {
        let smallest = _mm512_set1_ps(SMALLEST_TERM);
        let kept = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(_mm512_abs_ps(numbers), smallest);
        _mm512_maskz_mov_ps(kept, numbers)
    }
}

/// The upper 16 bits of each number; the others are zero.
///
/// # Safety
/// As for [`write_terms`].
#[inline(always)]
unsafe fn upper_bits(numbers: __m512) -> __m512 {
    // SAFETY: the caller guarantees the instructions.
    unsafe {
        let mask = _mm512_set1_epi32(0xffff_0000_u32 as i32);
        _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(numbers), mask))
    }
}

/// Each number rounded to the nearest with 16 bits, ties to even. NaN stays NaN.
///
/// # Safety
/// As for [`write_terms`].
#[inline(always)]
unsafe fn round_to_bf16(numbers: __m512) -> __m512 {
    // SAFETY: the caller guarantees the instructions.
    unsafe {
        let bits = _mm512_castps_si512(numbers);
        let last = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let half = _mm512_add_epi32(last, _mm512_set1_epi32(0x7fff));
        let rounded = upper_bits(_mm512_castsi512_ps(_mm512_add_epi32(bits, half)));
        let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(numbers, numbers);
        _mm512_mask_mov_ps(rounded, is_nan, _mm512_set1_ps(f32::NAN))
    }
}

/// Numbers of 16 bits as bf16, those of `lower` first.
///
/// # Safety
/// As for [`write_terms`].
#[inline(always)]
unsafe fn to_bf16(lower: __m512, upper: __m512) -> __m512i {
    /// The upper half of each number.
    const UPPER_HALVES: [u16; TILE_DEPTH] = {
        let mut indices = [0; TILE_DEPTH];
        let mut at = 0;
        while at < TILE_DEPTH {
            indices[at] = 2 * at as u16 + 1;
            at += 1;
        }
        indices
    };
    // SAFETY: the caller guarantees the instructions.
    unsafe {
        let indices = _mm512_loadu_si512(UPPER_HALVES.as_ptr().cast());
        let (lower, upper) = (_mm512_castps_si512(lower), _mm512_castps_si512(upper));
        _mm512_permutex2var_epi16(lower, indices, upper)
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::cpu::arch::avx512;
    use crate::cpu::element::round_to_bf16;

    #[test]
    fn the_terms_add_up_to_the_number() {
        if !avx512::is_available_with_bw() {
            return;
        }
        let numbers = [0., 1., -1. / 3., 1e-25, f32::MAX, 16_777_215.];
        for number in numbers {
            let terms = split_alike::<3>(number).map(|term| value(term.0[5]));
            assert_eq!(terms.iter().sum::<f64>(), f64::from(number));
        }
        assert_eq!(split_alike::<3>(f32::MIN_POSITIVE).map(|term| value(term.0[5])), [0.; 3]);
        let infinite = split_alike::<3>(f32::INFINITY).map(|term| value(term.0[5]));
        assert!(infinite.iter().sum::<f64>().is_nan());
    }

    #[test]
    fn a_single_term_is_the_nearest_bf16() {
        let ties = [1. + 1. / 256., 1. + 3. / 256., -1. - 1. / 256. - 1e-6];
        for number in [0., -0., 1., -1. / 3., f32::MAX, f32::INFINITY].into_iter().chain(ties) {
            let nearest = bf16::from_f32(number).to_f32();
            assert_eq!(round_to_bf16(number).to_bits(), nearest.to_bits(), "{number}");
            if avx512::is_available_with_bw() {
                assert_eq!(value(split_alike::<1>(number)[0].0[5]), f64::from(nearest), "{number}");
            }
        }
        for nan in [f32::NAN, f32::from_bits(0x7fff_ffff), f32::from_bits(0xff80_0001)] {
            assert!(round_to_bf16(nan).is_nan());
            if avx512::is_available_with_bw() {
                assert!(value(split_alike::<1>(nan)[0].0[5]).is_nan());
            }
        }
    }

    /// The terms of a number in all places.
    fn split_alike<const TERMS: usize>(number: f32) -> [TileRow; TERMS] {
        let mut rows = [TileRow([0; TILE_DEPTH]); TERMS];
        // SAFETY: the tests check for AVX-512 with BW first.
        unsafe { write_terms::<TERMS, false>(&[number; TILE_DEPTH], rows.as_mut_ptr(), 1) };
        rows
    }

    /// A number of bf16 from its bits.
    fn value(bits: u16) -> f64 {
        f64::from(f32::from_bits(u32::from(bits) << 16))
    }
}
