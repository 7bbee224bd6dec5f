//! Random tensors of 16-bit numbers, and the error of a result against f64.

use colm_kernels_twin::{Aligned, Number};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::Rng;

/// A dtype of the kernels.
pub trait Half: Number + PartialEq + std::fmt::Debug {
    const DTYPE: i32;
    /// The largest accepted error, relative to the norm of the result.
    const TOLERANCE: f64;
    const NAN: Self;
    fn from_f64(x: f64) -> Self;
    fn to_f64(self) -> f64;
}

impl Half for bf16 {
    const DTYPE: i32 = 0;
    const TOLERANCE: f64 = 1e-2;
    const NAN: Self = bf16::NAN;
    fn from_f64(x: f64) -> Self {
        bf16::from_f64(x)
    }
    fn to_f64(self) -> f64 {
        bf16::to_f64(self)
    }
}

impl Half for f16 {
    const DTYPE: i32 = 1;
    const TOLERANCE: f64 = 2e-3;
    const NAN: Self = f16::NAN;
    fn from_f64(x: f64) -> Self {
        f16::from_f64(x)
    }
    fn to_f64(self) -> f64 {
        f16::to_f64(self)
    }
}

/// Numbers between -1 and 1.
pub fn random<T: Half>(rng: &mut StdRng, count: usize) -> Aligned<T> {
    let numbers: Vec<T> = (0..count).map(|_| T::from_f64(rng.random_range(-1f64..1.))).collect();
    Aligned::new(&numbers)
}

/// A buffer for `count` numbers that a launch writes, followed by a guard that it must not write.
pub struct Output<T> {
    numbers: Aligned<T>,
    count: usize,
}

/// Numbers of the guard.
const GUARD: usize = 256;

impl<T: Half> Output<T> {
    pub fn new(count: usize) -> Self {
        Self { numbers: Aligned::new(&vec![T::NAN; count + GUARD]), count }
    }

    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.numbers.as_mut_ptr()
    }

    /// The written numbers; NaN where nothing was written.
    pub fn written(self) -> Vec<T> {
        let (written, guard) = self.numbers.as_slice().split_at(self.count);
        assert!(guard.iter().all(|x| x.to_f64().is_nan()), "a write past the end");
        written.to_vec()
    }
}

/// Fails if `found` differs from `expected` by more than the tolerance, as a whole or in one number.
#[track_caller]
pub fn assert_close<T: Half>(found: &[T], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    if expected.is_empty() {
        return;
    }
    let norm = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
    let differences = found.iter().zip(expected).map(|(found, expected)| found.to_f64() - expected);
    let error = differences.clone().map(|x| x * x).sum::<f64>().sqrt() / norm;
    assert!(error < T::TOLERANCE, "{what}: relative error {error}");
    let unit = norm / (expected.len() as f64).sqrt();
    for (at, (difference, expected)) in differences.zip(expected).enumerate() {
        let bound = T::TOLERANCE * (unit + expected.abs());
        assert!(difference.abs() < bound, "{what}: number {at} is off by {difference}");
    }
}
