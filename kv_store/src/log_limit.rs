//! Warnings about things that can happen a thousand times a second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most one warning in this time.
const PAUSE: Duration = Duration::from_secs(10);

/// Lets a kind of warning through now and then, and counts the others.
#[derive(Default)]
pub(crate) struct LogLimit(Mutex<Last>);

#[derive(Default)]
struct Last {
    at: Option<Instant>,
    left_out: u64,
}

impl LogLimit {
    /// Whether to log now: the number of warnings left out since the last one, or `None`.
    pub(crate) fn permit(&self) -> Option<u64> {
        self.permit_at(Instant::now())
    }

    fn permit_at(&self, now: Instant) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.at.is_some_and(|at| now < at + PAUSE) {
            last.left_out += 1;
            return None;
        }
        last.at = Some(now);
        Some(std::mem::take(&mut last.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_left_out_and_counted() {
        let (limit, now) = (LogLimit::default(), Instant::now());
        assert_eq!(limit.permit_at(now), Some(0));
        assert_eq!(limit.permit_at(now), None);
        assert_eq!(limit.permit_at(now + PAUSE / 2), None);
        assert_eq!(limit.permit_at(now + PAUSE), Some(2));
        assert_eq!(limit.permit_at(now + PAUSE), None);
    }
}
