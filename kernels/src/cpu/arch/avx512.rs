//! AVX-512.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::isa_limit::{self, X86Isa};
use super::{avx2, Isa, IsaKernel, SimdVector};
use crate::cpu::gemm::{check_micro_kernel, register_tile, widen, NrVector, PackedRhs};

/// AVX-512.
pub(crate) struct Avx512;

pub(super) fn is_available() -> bool {
    isa_limit::allows(X86Isa::Avx512) && is_x86_feature_detected!("avx512f") && avx2::is_available()
}

/// With the instructions for words of 16 bits, too.
pub(super) fn is_available_with_bw() -> bool {
    is_available() && is_x86_feature_detected!("avx512bw")
}

#[target_feature(enable = "avx512f,avx2,fma,f16c")]
pub(super) fn run<K: IsaKernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

impl Isa for Avx512 {
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
        // SAFETY: the lengths are checked; `run` is entered only on processors with AVX-512.
        unsafe { micro_kernel(lhs, rhs, acc) }
    }

    #[inline(always)]
    fn widen<W: PackedRhs>(rhs: &[W], to: &mut [NrVector]) {
        // SAFETY: `run` is entered only on processors with AVX-512.
        unsafe { widen_panel(rhs, to) }
    }
}

/// Not inlined: a function with everything that a task needs takes minutes to compile.
///
/// # Safety
/// The processor must have AVX-512.
#[inline(never)]
#[target_feature(enable = "avx512f,avx2,fma,f16c")]
unsafe fn widen_panel<W: PackedRhs>(rhs: &[W], to: &mut [NrVector]) {
    // SAFETY: the caller guarantees the instructions.
    unsafe { widen::<__m512, W>(rhs, to) }
}

/// A register tile of `R` rows. Only that of f32 is inlined: products of 32 rows take 8 % longer otherwise.
///
/// # Safety
/// The processor must have AVX-512. `lhs` and `acc` must have `R` rows, and `rhs` must be at most `DEPTH` deep.
#[inline(always)]
unsafe fn tile<const R: usize, W: PackedRhs, const DEPTH: usize>(
    lhs: &[[f32; DEPTH]],
    rhs: &[W],
    acc: &mut [NrVector],
) {
    // SAFETY: the caller upholds the contract, and the tile has all 32 columns.
    unsafe {
        if W::IS_F32 {
            register_tile::<__m512, R, 2, W, DEPTH>(lhs, rhs, acc, 0, 0);
        } else {
            outlined_tile::<R, W, DEPTH>(lhs, rhs, acc);
        }
    }
}

/// Not inlined, as [`widen_panel`].
///
/// # Safety
/// As for [`tile`].
#[inline(never)]
#[target_feature(enable = "avx512f,avx2,fma,f16c")]
unsafe fn outlined_tile<const R: usize, W: PackedRhs, const DEPTH: usize>(
    lhs: &[[f32; DEPTH]],
    rhs: &[W],
    acc: &mut [NrVector],
) {
    // SAFETY: the caller upholds the contract.
    unsafe { register_tile::<__m512, R, 2, W, DEPTH>(lhs, rhs, acc, 0, 0) }
}

/// All rows in one register tile: 24 accumulators, 2 registers of the rhs, 1 of the lhs.
///
/// # Safety
/// The processor must have AVX-512, and [`check_micro_kernel`] must pass.
#[inline(always)]
unsafe fn micro_kernel<W: PackedRhs, const DEPTH: usize>(
    lhs: &[[f32; DEPTH]],
    rhs: &[W],
    acc: &mut [NrVector],
) {
    // SAFETY: the tile has the rows of `lhs` and all 32 columns.
    unsafe {
        match lhs.len() {
            1 => tile::<1, W, DEPTH>(lhs, rhs, acc),
            2 => tile::<2, W, DEPTH>(lhs, rhs, acc),
            3 => tile::<3, W, DEPTH>(lhs, rhs, acc),
            4 => tile::<4, W, DEPTH>(lhs, rhs, acc),
            _ if !W::FULL_MR => {}
            5 => tile::<5, W, DEPTH>(lhs, rhs, acc),
            6 => tile::<6, W, DEPTH>(lhs, rhs, acc),
            7 => tile::<7, W, DEPTH>(lhs, rhs, acc),
            8 => tile::<8, W, DEPTH>(lhs, rhs, acc),
            9 => tile::<9, W, DEPTH>(lhs, rhs, acc),
            10 => tile::<10, W, DEPTH>(lhs, rhs, acc),
            11 => tile::<11, W, DEPTH>(lhs, rhs, acc),
            12 => tile::<12, W, DEPTH>(lhs, rhs, acc),
            _ => {}
        }
    }
}

impl SimdVector for __m512 {
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn load_f32(from: *const f32) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self {
        // SAFETY: the caller upholds the contract of the trait. bf16 is the upper half of an f32.
        unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_bits(from: *const u32, shift: u32, mask: u32) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe {
            let words = _mm512_loadu_si512(from.cast());
            let words = _mm512_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
            _mm512_cvtepi32_ps(_mm512_and_si512(words, _mm512_set1_epi32(mask as i32)))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { _mm512_fmadd_ps(a, b, self) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { _mm512_mul_ps(self, other) }
    }
}
