//! Kernels that test the twin itself; see `probes/`.

use std::ffi::{c_int, c_void};

extern "C" {
    /// Copies 128 x 8 numbers from `from` through shared memory to `to`, each thread passing on what a
    /// thread of another warp copied. `fault` says what is left out: see `probes/meetings.cu`.
    pub fn twin_copy(fault: c_int, from: *const half::f16, to: *mut half::f16) -> c_int;

    /// Runs a kernel that must end in a fault: see `probes/meetings.cu`.
    pub fn twin_meeting(fault: c_int) -> c_int;

    /// `product = a b`, `[16, 8]` of f32, with `a` `[16, 16]` and `b` `[16, 8]`, or `b` transposed
    /// `[8, 16]`.
    pub fn twin_product(
        dtype: c_int,
        transposed: bool,
        a: *const c_void,
        b: *const c_void,
        product: *mut f32,
    ) -> c_int;

    /// The bits of `x` rounded to a 16-bit dtype.
    pub fn twin_round(dtype: c_int, x: f32) -> u16;

    /// The number that the bits of a 16-bit dtype stand for.
    pub fn twin_widen(dtype: c_int, bits: u16) -> f32;
}
