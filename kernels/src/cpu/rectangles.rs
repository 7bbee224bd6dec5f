//! A matrix that several threads fill.

use std::marker::PhantomData;
use std::ops::Range;

/// A matrix of which every task writes rectangles of its own.
pub(crate) struct Rectangles<'a> {
    numbers: *mut f32,
    rows: usize,
    width: usize,
    of: PhantomData<&'a mut [f32]>,
}

// SAFETY: the matrix is reached through `row` alone, whose callers promise that no number is in the
// hands of two of them.
unsafe impl Sync for Rectangles<'_> {}

impl<'a> Rectangles<'a> {
    /// `numbers` is `[rows, width]`.
    pub(crate) fn new(numbers: &'a mut [f32], width: usize) -> Self {
        let rows = numbers.len().checked_div(width).unwrap_or(0);
        Self { numbers: numbers.as_mut_ptr(), rows, width, of: PhantomData }
    }

    /// Some columns of a row.
    ///
    /// # Panics
    /// If they are not within the matrix.
    ///
    /// # Safety
    /// Nobody else may have any of these numbers while the slice is in use.
    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    pub(crate) unsafe fn row(&self, row: usize, columns: Range<usize>) -> &mut [f32] {
        assert!(row < self.rows && columns.start <= columns.end && columns.end <= self.width);
        // SAFETY: within the slice this was made of, which is borrowed for as long; and exclusive, as
        // the caller promises.
        unsafe {
            let start = self.numbers.add(row * self.width + columns.start);
            std::slice::from_raw_parts_mut(start, columns.len())
        }
    }
}
