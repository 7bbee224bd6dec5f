//! How fast reads are.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bytes per second of the reads so far. Each read counts half as much as the one after it, and long reads
/// count more than short ones.
#[derive(Default)]
pub(crate) struct ReadRate(Mutex<Option<Sums>>);

struct Sums {
    bytes: f64,
    seconds: f64,
}

impl ReadRate {
    /// Adds a read in which blocks arrived.
    pub(crate) fn add(&self, bytes: u64, time: Duration) {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = sums.take().unwrap_or(Sums { bytes: 0.0, seconds: 0.0 });
        *sums = Some(Sums {
            bytes: last.bytes / 2.0 + bytes as f64,
            // A coarse clock must not make the rate infinite.
            seconds: last.seconds / 2.0 + time.as_secs_f64().max(1e-6),
        });
    }

    pub(crate) fn get(&self) -> Option<f64> {
        let sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sums.as_ref().map(|sums| sums.bytes / sums.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_the_last_reads() {
        let rate = ReadRate::default();
        assert_eq!(rate.get(), None);
        rate.add(1000, Duration::from_secs(1));
        assert_eq!(rate.get(), Some(1000.0));
        rate.add(3500, Duration::from_secs(1));
        // (1000 / 2 + 3500) / (1 / 2 + 1)
        assert_eq!(rate.get(), Some(4000.0 / 1.5));
        (0..20).for_each(|_| rate.add(100, Duration::from_secs(1)));
        assert!((rate.get().unwrap() - 100.0).abs() < 1.0);
        rate.add(0, Duration::ZERO);
        assert!(rate.get().unwrap().is_finite());
    }
}
