//! Whether reading blocks is faster than computing them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The share of a new measurement in the mean.
const WEIGHT: f64 = 0.2;
/// One in this many prompts is read even if the store seems to be slower, so that its rate is measured again.
const TRIAL: usize = 16;

/// How many prompt tokens the model computes per second, as a moving mean of the steps that compute many.
#[derive(Debug, Default)]
pub struct PrefillRate {
    /// The bits of an f64; 0 before the first step.
    tokens_per_second: AtomicU64,
    slow_reads: AtomicUsize,
}

impl PrefillRate {
    /// A step has computed `tokens` of prompts in `duration`.
    pub fn add(&self, tokens: usize, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if tokens == 0 || seconds <= 0.0 {
            return;
        }
        let rate = tokens as f64 / seconds;
        // Only the engine's thread writes.
        let mean = match self.get() {
            Some(mean) => mean + WEIGHT * (rate - mean),
            None => rate,
        };
        self.tokens_per_second.store(mean.to_bits(), Ordering::Relaxed);
    }

    /// None before the first step.
    fn get(&self) -> Option<f64> {
        Some(f64::from_bits(self.tokens_per_second.load(Ordering::Relaxed)))
            .filter(|rate| *rate > 0.0)
    }

    /// Whether `bytes` should be read at `read_rate` bytes per second instead of computing `tokens` tokens. If a rate is
    /// not known yet, they should.
    pub(super) fn reading_pays(&self, tokens: usize, bytes: usize, read_rate: Option<f64>) -> bool {
        let (Some(computed), Some(read)) = (self.get(), read_rate) else { return true };
        if bytes as f64 / read <= tokens as f64 / computed {
            return true;
        }
        self.slow_reads.fetch_add(1, Ordering::Relaxed) % TRIAL == TRIAL - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_way_is_taken() {
        let rate = PrefillRate::default();
        assert!(rate.reading_pays(32, 1000, Some(1.0)), "the rate of the model is not known");
        rate.add(1000, Duration::from_secs(1));
        assert!(rate.reading_pays(100, 1000, None), "the rate of the store is not known");
        // 100 tokens take 0.1 s.
        assert!(rate.reading_pays(100, 1000, Some(20_000.0)));
        assert!(!rate.reading_pays(100, 1000, Some(5_000.0)));
    }

    #[test]
    fn a_slow_store_is_tried_again() {
        let rate = PrefillRate::default();
        rate.add(1000, Duration::from_secs(1));
        let tried = (0..3 * TRIAL).filter(|_| rate.reading_pays(100, 1000, Some(1.0))).count();
        assert_eq!(tried, 3);
    }
}
