//! The *twin*: an emulator that runs the CUDA kernels on the CPU, thread by thread, for tests.
//!
//! `build.rs` compiles the kernel sources in `kernels/cuda` as plain C++ against `cpp/cuda_twin.h`, which runs the
//! threads of a block as fibers and emulates the GPU's instructions. The tests of this crate call the launchers and
//! compare with formulas in f64: indexing, masks, synchronization and rounding are tested without a GPU. Speed is not.
//!
//! With the feature `twin` of `colm-kernels` and `colm`, the same emulator runs the kernels for the whole model:
//! tensors that are bf16 or f16 take the path of a GPU.
//!
//! Needs a C++17 compiler, and glibc for its `ucontext`.

#![warn(missing_docs)]

pub mod probes;

pub use colm_cuda::ffi::{attention, kv_write, linear};
pub use colm_cuda::limits;

use std::ffi::CStr;
use std::marker::PhantomData;

use colm_cuda::ffi::colm_status_text;

extern "C" {
    fn twin_order(descending: bool);
}

/// Describes a launcher's status. For a fault of the twin it is the last one of this thread.
pub fn status_text(status: i32) -> String {
    // SAFETY: the description is NUL-terminated and valid until this thread's next launch.
    unsafe { CStr::from_ptr(colm_status_text(status)) }.to_string_lossy().into_owned()
}

/// The order in which the CUDA threads of a block run between two barriers. A missing barrier changes the result in one
/// of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By ascending thread index.
    Ascending,
    /// By descending thread index.
    Descending,
}

impl Order {
    /// Both orders.
    pub const ALL: [Self; 2] = [Self::Ascending, Self::Descending];

    /// Uses this order for the later launches of this CPU thread.
    pub fn set(self) {
        // SAFETY: sets a thread-local flag.
        unsafe { twin_order(self == Self::Descending) }
    }
}

/// A buffer aligned to 16 bytes, for the pointers that the launchers take.
///
/// On a GPU every tensor is aligned, and the kernels rely on it; a `Vec` of 16-bit numbers need not be.
#[derive(Clone, Debug)]
pub struct Aligned<T> {
    words: Vec<u128>,
    len: usize,
    kind: PhantomData<T>,
}

/// Plain numbers: every bit pattern is a value.
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
        // SAFETY: the words hold `len` numbers, 16 is a multiple of their alignment, and every bit pattern is valid.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }

    /// The numbers, mutable.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), self.len) }
    }

    /// The address, for a launcher that reads.
    pub fn as_ptr(&self) -> *const T {
        self.as_slice().as_ptr()
    }

    /// The address, for a launcher that writes.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.as_mut_slice().as_mut_ptr()
    }
}
