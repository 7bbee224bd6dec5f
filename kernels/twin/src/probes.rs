//! Kernels that test the twin itself. Their sources are in `probes/`.

use std::ffi::{c_int, c_void};

extern "C" {
    /// Copies 128 x 8 numbers from `from` to `to` through shared memory. Each thread writes what a thread of another
    /// warp has loaded. `fault` is the step to leave out: see `probes/faults.cu`.
    pub fn twin_copy(fault: c_int, from: *const half::f16, to: *mut half::f16) -> c_int;

    /// Runs a kernel that must end in a fault: see `probes/faults.cu`.
    pub fn twin_bad_barrier(fault: c_int) -> c_int;

    /// `product = a b` `[16, 8]` of f32, with `a` `[16, 16]` and `b` `[16, 8]`, or, if `transposed`, b given as
    /// `[8, 16]`.
    pub fn twin_product(
        dtype: c_int,
        transposed: bool,
        a: *const c_void,
        b: *const c_void,
        product: *mut f32,
    ) -> c_int;

    /// Rounds `x` to a 16-bit dtype and returns its bits.
    pub fn twin_round(dtype: c_int, x: f32) -> u16;

    /// Converts the bits of a 16-bit dtype to f32.
    pub fn twin_widen(dtype: c_int, bits: u16) -> f32;
}
