//! Mean and spread of repeated runs.

/// Values of runs that differ in their seed only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation; none of a single run.
    pub spread: Option<f64>,
    /// The number of runs.
    pub runs: usize,
}

impl Summary {
    /// None of no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let runs = values.len();
        if runs == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / runs as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let spread = (runs > 1).then(|| (squares / (runs - 1) as f64).sqrt());
        Some(Self { mean, spread, runs })
    }
}
