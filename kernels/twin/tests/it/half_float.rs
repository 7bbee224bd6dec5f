//! The dtypes of the kernels, and random numbers of them.

use std::fmt::Debug;

use colm_kernels_twin::Number;
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::Rng;

/// A dtype of the kernels.
pub trait HalfFloat: Number + Debug + PartialEq {
    /// Its code in the launchers.
    const DTYPE: i32;
    /// The largest accepted error of a result, relative to its norm.
    const TOLERANCE: f64;
    const NAN: Self;
    fn rounded(x: f32) -> Self;
    fn wide(self) -> f64;
    fn bits(self) -> u16;
}

impl HalfFloat for bf16 {
    const DTYPE: i32 = 0;
    const TOLERANCE: f64 = 1e-2;
    const NAN: Self = bf16::NAN;
    fn rounded(x: f32) -> Self {
        bf16::from_f32(x)
    }
    fn wide(self) -> f64 {
        self.to_f64()
    }
    fn bits(self) -> u16 {
        self.to_bits()
    }
}

impl HalfFloat for f16 {
    const DTYPE: i32 = 1;
    const TOLERANCE: f64 = 2e-3;
    const NAN: Self = f16::NAN;
    fn rounded(x: f32) -> Self {
        f16::from_f32(x)
    }
    fn wide(self) -> f64 {
        self.to_f64()
    }
    fn bits(self) -> u16 {
        self.to_bits()
    }
}

/// Numbers between `-bound` and `bound`.
pub fn random<T: HalfFloat>(rng: &mut StdRng, count: usize, bound: f32) -> Vec<T> {
    (0..count).map(|_| T::rounded(rng.random_range(-bound..bound))).collect()
}
