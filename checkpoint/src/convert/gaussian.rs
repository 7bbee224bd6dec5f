//! Normally distributed random weights.

use std::f64::consts::TAU;

use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Independent normal values of mean 0.
///
/// A value depends on the seed, the stream and its row and column, and on nothing else. So a tensor
/// is the same in both layouts, and any row can be computed without the rows before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gaussian {
    /// The seed of the whole model.
    pub seed: u64,
    /// Distinguishes the tensors of one model.
    pub stream: u64,
    /// The standard deviation.
    pub std: f32,
}

/// Generates the rows of one rectangle of [`Gaussian`] values.
pub(crate) struct GaussianRows {
    random: ChaCha8Rng,
    columns: usize,
    std: f64,
}

impl GaussianRows {
    pub fn new(gaussian: Gaussian, columns: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(gaussian.seed);
        random.set_stream(gaussian.stream);
        Self { random, columns, std: f64::from(gaussian.std) }
    }

    /// Appends row `row` to `out`. Values are made in pairs by [`box_muller`].
    pub fn push_row(&mut self, row: usize, out: &mut Vec<f32>) {
        let pairs = self.columns.div_ceil(2);
        // A pair takes two 32-bit words.
        self.random.set_word_pos(2 * (row * pairs) as u128);
        let end = out.len() + self.columns;
        for _ in 0..pairs {
            let uniform = [self.uniform(), self.uniform()];
            out.extend(box_muller(uniform, self.std).map(|value| value as f32));
        }
        out.truncate(end);
    }

    /// A uniform value above 0 and below 1.
    fn uniform(&mut self) -> f64 {
        (f64::from(self.random.next_u32()) + 0.5) / 2f64.powi(32)
    }
}

/// Two independent normal values of mean 0 and standard deviation `std`, made of two independent
/// uniform values: one above 0 and at most 1, one of at least 0 and at most 1.
pub fn box_muller([radius, angle]: [f64; 2], std: f64) -> [f64; 2] {
    let radius = std * (-2. * radius.ln()).sqrt();
    let (sin, cos) = (TAU * angle).sin_cos();
    [radius * cos, radius * sin]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(gaussian: Gaussian, columns: usize, rows: impl Iterator<Item = usize>) -> Vec<f32> {
        let (mut generator, mut values) = (GaussianRows::new(gaussian, columns), Vec::new());
        rows.for_each(|row| generator.push_row(row, &mut values));
        values
    }

    #[test]
    fn the_moments_are_those_of_a_normal_distribution() {
        let values = rows(Gaussian { seed: 7, stream: 3, std: 0.5 }, 1001, 0..100);
        let n = values.len() as f64;
        let moment = |power| values.iter().map(|&v| (f64::from(v) / 0.5).powi(power)).sum::<f64>();
        let expected = [(1, 0., 1.), (2, 1., 2.), (3, 0., 15.), (4, 3., 96.)];
        for (power, mean, variance) in expected {
            let error = moment(power) / n - mean;
            assert!(error.abs() < 5. * f64::sqrt(variance / n), "moment {power}: off by {error}");
        }
    }

    /// Equal seeds give equal weights in every version.
    #[test]
    fn the_values_of_a_seed_do_not_change() {
        let values = rows(Gaussian { seed: 7, stream: 3, std: 0.02 }, 3, 0..2);
        let bits: Vec<u32> = values.into_iter().map(f32::to_bits).collect();
        let expected =
            [0x3c1a_ff14, 0x3ca8_ebb1, 0x3c9b_e22f, 0x3c83_d911, 0xbb0b_f488, 0xbca4_c1d7];
        assert_eq!(bits, expected);
    }

    #[test]
    fn a_row_depends_on_its_place_alone() {
        let gaussian = Gaussian { seed: 1, stream: 2, std: 1. };
        let all = rows(gaussian, 5, 0..4);
        assert_eq!(all[10..15], rows(gaussian, 5, 2..3));
        assert_ne!(all[10..15], all[5..10]);
        assert_ne!(all, rows(Gaussian { stream: 3, ..gaussian }, 5, 0..4));
        assert_ne!(all, rows(Gaussian { seed: 2, ..gaussian }, 5, 0..4));
    }
}
