//! The CUDA kernels of colm-kernels on the CPU, thread for thread.
//!
//! `build.rs` compiles the kernel sources in `kernels/cuda` as plain C++ against `cuda_twin.h`, which
//! runs the threads of a block as fibers and gives the GPU's instructions a meaning on the CPU. The
//! tests of this crate call the launchers and compare with formulas in f64, so indexing, masks,
//! synchronisation and rounding are tested where there is no GPU. Speed is not.
//!
//! Needs a C++17 compiler, and glibc for its `ucontext`.

#![warn(missing_docs)]

pub mod probes;

pub use colm_cuda::ffi::{attention, kv_write, linear};

use std::ffi::CStr;
use std::marker::PhantomData;

use colm_cuda::ffi::colm_status_text;

extern "C" {
    fn twin_order(descending: bool);
}

/// What a launcher's status says in words; of a fault of the twin, the last one of this thread.
pub fn status_text(status: i32) -> String {
    // SAFETY: the launchers' descriptions are NUL-terminated and live until this thread's next launch.
    unsafe { CStr::from_ptr(colm_status_text(status)) }.to_string_lossy().into_owned()
}

/// The order in which the threads of a block take their turns between two meetings. What is right
/// under both does not depend on a barrier that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By thread index.
    Ascending,
    /// Against it.
    Descending,
}

impl Order {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ascending, Self::Descending];

    /// Makes this the order of the launches of this thread, from the next one on.
    pub fn set(self) {
        // SAFETY: sets a flag of this thread.
        unsafe { twin_order(self == Self::Descending) }
    }
}

/// A tensor's place for the launchers: the pointers they take, from slices.
///
/// On the GPU every tensor starts at a multiple of 16 bytes and the kernels rely on it; a `Vec` of
/// 16-bit numbers need not. This copies into a buffer that does.
#[derive(Clone, Debug)]
pub struct Aligned<T> {
    words: Vec<u128>,
    len: usize,
    kind: PhantomData<T>,
}

/// Plain numbers: any bits are a value.
///
/// # Safety
/// The type has no padding, no invalid bit pattern, and an alignment of at most 16.
pub unsafe trait Number: Copy {}
// SAFETY: plain integers and floats.
unsafe impl Number for half::bf16 {}
// SAFETY: as above.
unsafe impl Number for half::f16 {}
// SAFETY: as above.
unsafe impl Number for f32 {}
// SAFETY: as above.
unsafe impl Number for i32 {}
// SAFETY: as above.
unsafe impl Number for u32 {}
// SAFETY: as above.
unsafe impl Number for i64 {}

impl<T: Number> Aligned<T> {
    /// A copy of `numbers`.
    pub fn new(numbers: &[T]) -> Self {
        let words = std::mem::size_of_val(numbers).div_ceil(16);
        let mut copy = Self { words: vec![0; words], len: numbers.len(), kind: PhantomData };
        copy.as_mut_slice().copy_from_slice(numbers);
        copy
    }

    /// The numbers.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: the words hold `len` numbers, of an alignment that divides 16, and any bits are one.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }

    /// The numbers, to change.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`, and borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), self.len) }
    }

    /// Where they start, for a launcher that reads.
    pub fn as_ptr(&self) -> *const T {
        self.as_slice().as_ptr()
    }

    /// Where they start, for a launcher that writes.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.as_mut_slice().as_mut_ptr()
    }
}
