//! AVX2 with FMA and F16C.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::isa_limit::{self, X86Isa};
use super::{Isa, IsaKernel, SimdVector};
use crate::cpu::gemm::{check_micro_kernel, register_tile, widen, NrVector, PackedRhs};

/// AVX2 with FMA and F16C.
pub(crate) struct Avx2;

pub(super) fn is_available() -> bool {
    isa_limit::allows(X86Isa::Avx2)
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn run<K: IsaKernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

impl Isa for Avx2 {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn micro_kernel<W: PackedRhs, const DEPTH: usize>(
        lhs: &[[f32; DEPTH]],
        rhs: &[W],
        acc: &mut [NrVector],
    ) {
        check_micro_kernel(lhs, rhs, acc);
        // SAFETY: the lengths are checked; `run` is entered only on processors with AVX2, FMA and F16C.
        unsafe { micro_kernel(lhs, rhs, acc) }
    }

    #[inline(always)]
    fn widen<W: PackedRhs>(rhs: &[W], to: &mut [NrVector]) {
        // SAFETY: `run` is entered only on processors with AVX2, FMA and F16C.
        unsafe { widen_panel(rhs, to) }
    }
}

/// Not inlined: a function with everything that a task needs takes minutes to compile.
///
/// # Safety
/// The processor must have AVX2, FMA and F16C.
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn widen_panel<W: PackedRhs>(rhs: &[W], to: &mut [NrVector]) {
    // SAFETY: the caller guarantees the instructions.
    unsafe { widen::<__m256, W>(rhs, to) }
}

/// A register tile of `R` rows from `row` on and `C` vectors of columns from `column` on. Only that of f32 is inlined:
/// products of 32 rows take 8 % longer otherwise.
///
/// # Safety
/// The processor must have AVX2, FMA and F16C. Otherwise as for [`register_tile`].
#[inline(always)]
unsafe fn tile<const R: usize, const C: usize, W: PackedRhs, const DEPTH: usize>(
    lhs: &[[f32; DEPTH]],
    rhs: &[W],
    acc: &mut [NrVector],
    row: usize,
    column: usize,
) {
    // SAFETY: the caller upholds the contract.
    unsafe {
        if W::IS_F32 {
            register_tile::<__m256, R, C, W, DEPTH>(lhs, rhs, acc, row, column);
        } else {
            outlined_tile::<R, C, W, DEPTH>(lhs, rhs, acc, row, column);
        }
    }
}

/// Not inlined, as [`widen_panel`].
///
/// # Safety
/// As for [`tile`].
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn outlined_tile<const R: usize, const C: usize, W: PackedRhs, const DEPTH: usize>(
    lhs: &[[f32; DEPTH]],
    rhs: &[W],
    acc: &mut [NrVector],
    row: usize,
    column: usize,
) {
    // SAFETY: the caller upholds the contract.
    unsafe { register_tile::<__m256, R, C, W, DEPTH>(lhs, rhs, acc, row, column) }
}

/// Register tiles of 6 rows and 16 columns: 12 accumulators, 2 registers of the rhs, 1 of the lhs. One or two rows take
/// all 32 columns at once. Their product waits for memory, and so it reads each panel once, in order.
///
/// # Safety
/// The processor must have AVX2, FMA and F16C, and [`check_micro_kernel`] must pass.
#[inline(always)]
unsafe fn micro_kernel<W: PackedRhs, const DEPTH: usize>(
    lhs: &[[f32; DEPTH]],
    rhs: &[W],
    acc: &mut [NrVector],
) {
    for row in (0..lhs.len()).step_by(6) {
        macro_rules! tile {
            ($rows:literal, $vectors:literal, $column:expr) => {
                tile::<$rows, $vectors, W, DEPTH>(lhs, rhs, acc, row, $column)
            };
        }
        let rows = lhs.len() - row;
        let columns: &[usize] = if rows <= 2 { &[0] } else { &[0, 16] };
        for &column in columns {
            // SAFETY: the tile has the remaining rows, and all of the four vectors of columns or two of them.
            unsafe {
                match rows {
                    1 => tile!(1, 4, column),
                    2 => tile!(2, 4, column),
                    3 => tile!(3, 2, column),
                    4 => tile!(4, 2, column),
                    _ if !W::FULL_MR => {}
                    5 => tile!(5, 2, column),
                    _ => tile!(6, 2, column),
                }
            }
        }
    }
}

impl SimdVector for __m256 {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn load_f32(from: *const f32) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self {
        // SAFETY: the caller upholds the contract of the trait. bf16 is the upper half of an f32.
        unsafe {
            let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
        }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_bits(from: *const u32, shift: u32, mask: u32) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe {
            let words = _mm256_loadu_si256(from.cast());
            let words = _mm256_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
            _mm256_cvtepi32_ps(_mm256_and_si256(words, _mm256_set1_epi32(mask as i32)))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { _mm256_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { _mm256_fmadd_ps(a, b, self) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { _mm256_mul_ps(self, other) }
    }
}
