//! The output of a launch, and its error against f64.

use colm_kernels_twin::Aligned;

use crate::half_float::HalfFloat;

/// A buffer for `count` numbers that a launch writes, followed by a guard that it must not write.
pub struct Output<T> {
    numbers: Aligned<T>,
    count: usize,
}

/// Numbers of the guard.
const GUARD: usize = 256;

impl<T: HalfFloat> Output<T> {
    pub fn new(count: usize) -> Self {
        Self { numbers: Aligned::new(&vec![T::NAN; count + GUARD]), count }
    }

    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.numbers.as_mut_ptr()
    }

    /// The written numbers; NaN where nothing was written.
    pub fn written(self) -> Vec<T> {
        let (written, guard) = self.numbers.as_slice().split_at(self.count);
        assert!(guard.iter().all(|x| x.wide().is_nan()), "a write past the end");
        written.to_vec()
    }
}

/// Fails if `found` differs from `expected` by more than the tolerance, in norm or in one number.
#[track_caller]
pub fn assert_close<T: HalfFloat>(found: &[T], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    if expected.is_empty() {
        return;
    }
    let norm = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
    let differences = found.iter().zip(expected).map(|(found, expected)| found.wide() - expected);
    let error = differences.clone().map(|x| x * x).sum::<f64>().sqrt() / norm;
    assert!(error < T::TOLERANCE, "{what}: relative error {error}");
    let unit = norm / (expected.len() as f64).sqrt();
    for (at, (difference, expected)) in differences.zip(expected).enumerate() {
        let bound = T::TOLERANCE * (unit + expected.abs());
        assert!(difference.abs() < bound, "{what}: number {at} is off by {difference}");
    }
}
