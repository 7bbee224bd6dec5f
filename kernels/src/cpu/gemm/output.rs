//! The output matrix, filled by several threads.

use std::ops::Range;

use super::NrVector;
use crate::cpu::arch::prefetch_for_write;
use candle_core::{Device, Result, Shape, Tensor};

/// A matrix of which every task writes disjoint parts. It is not initialized first: zeroing it took 4 % of a prompt's
/// time.
pub(crate) struct OutputMatrix {
    data: Vec<f32>,
    /// Start of `data`.
    start: *mut f32,
    rows: usize,
    width: usize,
}

// SAFETY: the numbers are accessed only through `write`, whose callers guarantee that no two threads write the same
// one.
unsafe impl Sync for OutputMatrix {}

impl OutputMatrix {
    /// An uninitialized `[rows, width]`.
    pub(crate) fn new(rows: usize, width: usize) -> Self {
        let mut data = Vec::with_capacity(rows * width);
        let start = data.as_mut_ptr();
        Self { data, start, rows, width }
    }

    /// Writes `values` to `row`, from `column` on.
    ///
    /// # Panics
    /// If they do not fit.
    ///
    /// # Safety
    /// No other thread may write the same numbers at the same time.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, row: usize, column: usize, values: &[f32]) {
        assert!(row < self.rows && column <= self.width && values.len() <= self.width - column);
        // SAFETY: the assertion keeps the write within the allocation, and the caller excludes concurrent writes.
        unsafe {
            let to = self.start.add(row * self.width + column);
            match <&NrVector>::try_from(values) {
                Ok(values) => to.cast::<NrVector>().write_unaligned(*values),
                Err(_) => copy_some(values, to),
            }
        }
    }

    /// Requests some columns of a row for writing.
    #[inline(always)]
    pub(crate) fn prefetch(&self, row: usize, columns: Range<usize>) {
        let start = self.start.wrapping_add(row * self.width + columns.start);
        prefetch_for_write(start, columns.len());
    }

    /// The matrix as a tensor of `shape`, which has as many numbers.
    ///
    /// # Safety
    /// Every number must have been written.
    pub(crate) unsafe fn into_tensor(mut self, shape: impl Into<Shape>) -> Result<Tensor> {
        // SAFETY: `rows * width` numbers are allocated, and the caller has written all of them.
        unsafe { self.data.set_len(self.rows * self.width) };
        Tensor::from_vec(self.data, shape.into(), &Device::Cpu)
    }
}

/// Copies `values`, of any number. Not inlined, or both ways to write would become one call of `memcpy`.
///
/// # Safety
/// As many numbers must be writable from `to` on, by this thread only.
#[inline(never)]
unsafe fn copy_some(values: &[f32], to: *mut f32) {
    // SAFETY: the caller upholds the contract above.
    unsafe { to.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
}
