//! Summaries of repeated measurements.

/// Mean and spread of values from runs that differ in their seed only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation; `None` for a single run.
    pub spread: Option<f64>,
    /// The number of runs.
    pub runs: usize,
}

impl Summary {
    /// Summarizes `values`; `None` if there are none.
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

/// The median of `values`; of an even number of values the mean of the middle two. `None` if there are none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (last, len) = (sorted.len().checked_sub(1)?, sorted.len());
    Some((sorted[last / 2] + sorted[len / 2]) / 2.)
}

/// The value below which `share` of `values` are, 0 to 1; `None` if there are none.
pub fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last as f64 * share).round() as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_of_several_values() {
        let summary = Summary::of(&[2., 4., 9.]).unwrap();
        assert_eq!((summary.mean, summary.runs), (5., 3));
        // The deviations are -3, -1 and 4: sqrt((9 + 1 + 16) / 2).
        assert!((summary.spread.unwrap() - 13f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn one_value_has_no_spread_and_no_value_has_no_summary() {
        let single = Summary::of(&[7.]).unwrap();
        assert_eq!((single.mean, single.spread, single.runs), (7., None, 1));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn the_median_of_odd_and_even_numbers_of_values() {
        assert_eq!(median(&[30., 10., 20.]), Some(20.));
        assert_eq!(median(&[40., 10., 20., 30.]), Some(25.));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn percentiles_are_values_of_the_sample() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        let found = [0., 0.5, 0.99, 1.].map(|share| percentile(&values, share).unwrap());
        assert_eq!(found, [0., 50., 99., 100.]);
        assert_eq!(percentile(&[7.], 0.99), Some(7.));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
