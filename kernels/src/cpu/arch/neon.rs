//! NEON, which every aarch64 has.

use std::arch::aarch64::*;

use half::{bf16, f16};

use super::{Isa, SimdVector};
use crate::cpu::gemm::{check_micro_kernel, register_tile, widen, NrVector, PackedRhs};

/// NEON, which every aarch64 has.
pub(crate) struct Neon;

impl Isa for Neon {
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
        // SAFETY: the lengths are checked; NEON is part of every aarch64.
        unsafe { micro_kernel(lhs, rhs, acc) }
    }

    #[inline(always)]
    fn widen<W: PackedRhs>(rhs: &[W], to: &mut [NrVector]) {
        // SAFETY: NEON is part of every aarch64.
        unsafe { widen::<float32x4_t, W>(rhs, to) }
    }
}

/// Register tiles of 6 rows and 16 columns: 24 accumulators, 4 registers of the rhs, 1 of the lhs.
///
/// # Safety
/// [`check_micro_kernel`] must pass.
#[inline(always)]
unsafe fn micro_kernel<W: PackedRhs, const DEPTH: usize>(
    lhs: &[[f32; DEPTH]],
    rhs: &[W],
    acc: &mut [NrVector],
) {
    for row in (0..lhs.len()).step_by(6) {
        for column in [0, 16] {
            // SAFETY: the tile has the remaining rows and four of the eight vectors of columns.
            unsafe {
                match lhs.len() - row {
                    1 => register_tile::<float32x4_t, 1, 4, W, DEPTH>(lhs, rhs, acc, row, column),
                    2 => register_tile::<float32x4_t, 2, 4, W, DEPTH>(lhs, rhs, acc, row, column),
                    3 => register_tile::<float32x4_t, 3, 4, W, DEPTH>(lhs, rhs, acc, row, column),
                    4 => register_tile::<float32x4_t, 4, 4, W, DEPTH>(lhs, rhs, acc, row, column),
                    _ if !W::FULL_MR => {}
                    5 => register_tile::<float32x4_t, 5, 4, W, DEPTH>(lhs, rhs, acc, row, column),
                    _ => register_tile::<float32x4_t, 6, 4, W, DEPTH>(lhs, rhs, acc, row, column),
                }
            }
        }
    }
}

impl SimdVector for float32x4_t {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn load_f32(from: *const f32) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self {
        // SAFETY: the caller upholds the contract of the trait. bf16 is the upper half of an f32.
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the caller upholds the contract of the trait. Element by element: the vector conversion is not in
        // stable Rust yet.
        unsafe {
            let wide: [f32; 4] = std::array::from_fn(|lane| f32::from(*from.add(lane)));
            vld1q_f32(wide.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe {
            let wide: [f32; 4] = std::array::from_fn(|lane| f32::from(*from.add(lane)));
            vld1q_f32(wide.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn load_bits(from: *const u32, shift: u32, mask: u32) -> Self {
        // SAFETY: the caller upholds the contract of the trait. A left shift by a negative count is a right shift.
        unsafe {
            let words = vshlq_u32(vld1q_u32(from), vdupq_n_s32(-(shift as i32)));
            vcvtq_f32_u32(vandq_u32(words, vdupq_n_u32(mask)))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { vst1q_f32(to, self) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { vfmaq_f32(self, a, b) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the caller upholds the contract of the trait.
        unsafe { vmulq_f32(self, other) }
    }
}
