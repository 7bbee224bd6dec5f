//! SIMD vectors of f32.

use half::{bf16, f16};

/// A SIMD register of f32.
///
/// # Safety
/// For all methods: the processor must have the instructions of the type, and a pointer must be valid for `LANES`
/// numbers.
pub(crate) trait SimdVector: Copy {
    const LANES: usize;

    unsafe fn load_f32(from: *const f32) -> Self;
    unsafe fn load_bf16(from: *const bf16) -> Self;
    unsafe fn load_f16(from: *const f16) -> Self;
    unsafe fn load_i8(from: *const i8) -> Self;
    /// `(word >> shift) & mask` of each 32-bit word, converted to f32.
    unsafe fn load_bits(from: *const u32, shift: u32, mask: u32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn splat(value: f32) -> Self;
    /// `self + a * b`, rounded once.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
}
