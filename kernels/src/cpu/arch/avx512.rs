//! AVX-512.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{avx2, Isa, IsaKernel, SimdVector};
use crate::cpu::gemm::{check_micro_kernel, register_tile, widen, NrVector, PackedRhs};

/// AVX-512.
pub(crate) struct Avx512;

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f") && avx2::is_available()
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
        unsafe { widen::<__m512, W>(rhs, to) }
    }
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
            1 => register_tile::<__m512, 1, 2, W, DEPTH>(lhs, rhs, acc, 0, 0),
            2 => register_tile::<__m512, 2, 2, W, DEPTH>(lhs, rhs, acc, 0, 0),
            3 => register_tile::<__m512, 3, 2, W, DEPTH>(lhs, rhs, acc, 0, 0),
            4 => register_tile::<__m512, 4, 2, W, DEPTH>(lhs, rhs, acc, 0, 0),
            _ if !W::FULL_MR => {}
            5 => register_tile::<__m512, 5, 2, W, DEPTH>(lhs, rhs, acc, 0, 0),
            6 => register_tile::<__m512, 6, 2, W, DEPTH>(lhs, rhs, acc, 0, 0),
            7 => register_tile::<__m512, 7, 2, W, DEPTH>(lhs, rhs, acc, 0, 0),
            8 => register_tile::<__m512, 8, 2, W, DEPTH>(lhs, rhs, acc, 0, 0),
            9 => register_tile::<__m512, 9, 2, W, DEPTH>(lhs, rhs, acc, 0, 0),
            10 => register_tile::<__m512, 10, 2, W, DEPTH>(lhs, rhs, acc, 0, 0),
            11 => register_tile::<__m512, 11, 2, W, DEPTH>(lhs, rhs, acc, 0, 0),
            12 => register_tile::<__m512, 12, 2, W, DEPTH>(lhs, rhs, acc, 0, 0),
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
