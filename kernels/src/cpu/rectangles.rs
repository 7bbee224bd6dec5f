//! A matrix that several threads fill.

use candle_core::{Device, Result, Shape, Tensor};

/// A matrix of which every task writes rectangles of its own. Nothing is written before: clearing what is then
/// overwritten took 4 % of a prompt.
pub(crate) struct Rectangles {
    numbers: Vec<f32>,
    /// Of `numbers`.
    start: *mut f32,
    rows: usize,
    width: usize,
}

// SAFETY: the numbers are reached through `put` alone, whose callers promise that no number is written by two
// of them.
unsafe impl Sync for Rectangles {}

impl Rectangles {
    /// `[rows, width]`, to be filled.
    pub(crate) fn new(rows: usize, width: usize) -> Self {
        let mut numbers = Vec::with_capacity(rows * width);
        let start = numbers.as_mut_ptr();
        Self { numbers, start, rows, width }
    }

    /// Writes `numbers` to `row`, from `column` on.
    ///
    /// # Panics
    /// If they do not fit.
    ///
    /// # Safety
    /// Nobody else may write there at the same time.
    #[inline(always)]
    pub(crate) unsafe fn put(&self, row: usize, column: usize, numbers: &[f32]) {
        assert!(row < self.rows && column <= self.width && numbers.len() <= self.width - column);
        // SAFETY: within what was allocated; and nobody else writes there, as the caller promises.
        unsafe {
            let to = self.start.add(row * self.width + column);
            to.copy_from_nonoverlapping(numbers.as_ptr(), numbers.len());
        }
    }

    /// The matrix as a tensor of as many numbers.
    ///
    /// # Safety
    /// Every number must have been written.
    pub(crate) unsafe fn filled(mut self, shape: impl Into<Shape>) -> Result<Tensor> {
        // SAFETY: so many were allocated, and written, as the caller promises.
        unsafe { self.numbers.set_len(self.rows * self.width) };
        Tensor::from_vec(self.numbers, shape.into(), &Device::Cpu)
    }
}
