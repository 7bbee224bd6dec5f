//! Registers of several numbers, in the processor's own instructions.

use half::{bf16, f16};

/// A register of several numbers.
///
/// # Safety
/// The processor must have the register's instructions, and `LANES` numbers must stand at a pointer.
pub(crate) trait Register: Copy {
    const LANES: usize;

    unsafe fn load_f32(from: *const f32) -> Self;
    unsafe fn load_bf16(from: *const bf16) -> Self;
    unsafe fn load_f16(from: *const f16) -> Self;
    unsafe fn load_i8(from: *const i8) -> Self;
    /// Of each word the number that the bits of `mask` make once the word is shifted right by `shift`.
    unsafe fn load_bits(from: *const u32, shift: u32, mask: u32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn splat(number: f32) -> Self;
    /// `self + a * b`, rounded once.
    unsafe fn plus_product(self, a: Self, b: Self) -> Self;
    unsafe fn times(self, other: Self) -> Self;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use half::{bf16, f16};

    use super::Register;

    impl Register for __m512 {
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn load_f32(from: *const f32) -> Self {
            // SAFETY: as the trait demands.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn load_bf16(from: *const bf16) -> Self {
            // SAFETY: as the trait demands. bf16 is the upper half of an f32.
            unsafe {
                let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
            }
        }

        #[inline(always)]
        unsafe fn load_f16(from: *const f16) -> Self {
            // SAFETY: as the trait demands.
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        }

        #[inline(always)]
        unsafe fn load_i8(from: *const i8) -> Self {
            // SAFETY: as the trait demands.
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
        }

        #[inline(always)]
        unsafe fn load_bits(from: *const u32, shift: u32, mask: u32) -> Self {
            // SAFETY: as the trait demands.
            unsafe {
                let words = _mm512_loadu_si512(from.cast());
                let words = _mm512_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
                _mm512_cvtepi32_ps(_mm512_and_si512(words, _mm512_set1_epi32(mask as i32)))
            }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as the trait demands.
            unsafe { _mm512_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn splat(number: f32) -> Self {
            // SAFETY: as the trait demands.
            unsafe { _mm512_set1_ps(number) }
        }

        #[inline(always)]
        unsafe fn plus_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as the trait demands.
            unsafe { _mm512_fmadd_ps(a, b, self) }
        }

        #[inline(always)]
        unsafe fn times(self, other: Self) -> Self {
            // SAFETY: as the trait demands.
            unsafe { _mm512_mul_ps(self, other) }
        }
    }

    impl Register for __m256 {
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn load_f32(from: *const f32) -> Self {
            // SAFETY: as the trait demands.
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn load_bf16(from: *const bf16) -> Self {
            // SAFETY: as the trait demands. bf16 is the upper half of an f32.
            unsafe {
                let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
            }
        }

        #[inline(always)]
        unsafe fn load_f16(from: *const f16) -> Self {
            // SAFETY: as the trait demands.
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
        }

        #[inline(always)]
        unsafe fn load_i8(from: *const i8) -> Self {
            // SAFETY: as the trait demands.
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
        }

        #[inline(always)]
        unsafe fn load_bits(from: *const u32, shift: u32, mask: u32) -> Self {
            // SAFETY: as the trait demands.
            unsafe {
                let words = _mm256_loadu_si256(from.cast());
                let words = _mm256_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
                _mm256_cvtepi32_ps(_mm256_and_si256(words, _mm256_set1_epi32(mask as i32)))
            }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as the trait demands.
            unsafe { _mm256_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn splat(number: f32) -> Self {
            // SAFETY: as the trait demands.
            unsafe { _mm256_set1_ps(number) }
        }

        #[inline(always)]
        unsafe fn plus_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as the trait demands.
            unsafe { _mm256_fmadd_ps(a, b, self) }
        }

        #[inline(always)]
        unsafe fn times(self, other: Self) -> Self {
            // SAFETY: as the trait demands.
            unsafe { _mm256_mul_ps(self, other) }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use half::{bf16, f16};

    use super::Register;

    impl Register for float32x4_t {
        const LANES: usize = 4;

        #[inline(always)]
        unsafe fn load_f32(from: *const f32) -> Self {
            // SAFETY: as the trait demands.
            unsafe { vld1q_f32(from) }
        }

        #[inline(always)]
        unsafe fn load_bf16(from: *const bf16) -> Self {
            // SAFETY: as the trait demands. bf16 is the upper half of an f32.
            unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.cast()))) }
        }

        #[inline(always)]
        unsafe fn load_f16(from: *const f16) -> Self {
            // SAFETY: as the trait demands. One by one: the conversion of a register is not in
            // stable Rust yet.
            unsafe {
                let wide: [f32; 4] = std::array::from_fn(|lane| f32::from(*from.add(lane)));
                vld1q_f32(wide.as_ptr())
            }
        }

        #[inline(always)]
        unsafe fn load_i8(from: *const i8) -> Self {
            // SAFETY: as the trait demands.
            unsafe {
                let wide: [f32; 4] = std::array::from_fn(|lane| f32::from(*from.add(lane)));
                vld1q_f32(wide.as_ptr())
            }
        }

        #[inline(always)]
        unsafe fn load_bits(from: *const u32, shift: u32, mask: u32) -> Self {
            // SAFETY: as the trait demands. Shifting left by less than nothing is shifting right.
            unsafe {
                let words = vshlq_u32(vld1q_u32(from), vdupq_n_s32(-(shift as i32)));
                vcvtq_f32_u32(vandq_u32(words, vdupq_n_u32(mask)))
            }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as the trait demands.
            unsafe { vst1q_f32(to, self) }
        }

        #[inline(always)]
        unsafe fn splat(number: f32) -> Self {
            // SAFETY: as the trait demands.
            unsafe { vdupq_n_f32(number) }
        }

        #[inline(always)]
        unsafe fn plus_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as the trait demands.
            unsafe { vfmaq_f32(self, a, b) }
        }

        #[inline(always)]
        unsafe fn times(self, other: Self) -> Self {
            // SAFETY: as the trait demands.
            unsafe { vmulq_f32(self, other) }
        }
    }
}
