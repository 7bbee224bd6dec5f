//! A circuit breaker: keeps requests away from a server or a disk that does not answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long it stays open the first time. Each failed trial doubles the time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Tells the time. Tests have one that they set.
pub type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

/// Closed while what it protects answers. Opens after some failures in a row: nothing is tried for a while, 1 s at first,
/// then one trial decides whether it closes or stays open for twice as long, up to a minute.
pub struct CircuitBreaker {
    /// What it keeps away, for logs, such as "reads of the KV store".
    what: String,
    /// The number of consecutive failures that opens it.
    failures: u32,
    clock: Clock,
    circuit: Mutex<Circuit>,
}

enum Circuit {
    Closed {
        failures: u32,
    },
    Open {
        pause: Duration,
        until: Instant,
    },
    /// A trial has begun. `pause` is the one before it.
    Trial {
        pause: Duration,
    },
}

impl CircuitBreaker {
    /// A closed circuit breaker that `failures` failures of `what` in a row open.
    pub fn new(what: impl Into<String>, failures: u32, clock: Clock) -> Self {
        let circuit = Mutex::new(Circuit::Closed { failures: 0 });
        Self { what: what.into(), failures, clock, circuit }
    }

    /// Asks for one use. `None` while the circuit is open.
    pub fn permit(self: &Arc<Self>) -> Option<Permit> {
        let mut circuit = self.lock();
        let trial = match *circuit {
            Circuit::Closed { .. } => false,
            Circuit::Open { pause, until } if (self.clock)() >= until => {
                *circuit = Circuit::Trial { pause };
                true
            }
            Circuit::Open { .. } | Circuit::Trial { .. } => return None,
        };
        Some(Permit { breaker: Arc::clone(self), trial, reported: false })
    }

    /// Whether the circuit is open: it is not known that there are answers again.
    pub fn is_open(&self) -> bool {
        !matches!(*self.lock(), Circuit::Closed { .. })
    }

    /// Whether [`permit`](Self::permit) would return `None`.
    pub fn refuses(&self) -> bool {
        match *self.lock() {
            Circuit::Closed { .. } => false,
            Circuit::Open { until, .. } => (self.clock)() < until,
            Circuit::Trial { .. } => true,
        }
    }

    fn succeeded(&self, trial: bool) {
        let mut circuit = self.lock();
        match *circuit {
            Circuit::Closed { .. } => *circuit = Circuit::Closed { failures: 0 },
            Circuit::Trial { .. } if trial => {
                tracing::info!("{} go on: the last one succeeded", self.what);
                *circuit = Circuit::Closed { failures: 0 };
            }
            // Begun before the circuit opened: it says nothing about now.
            Circuit::Open { .. } | Circuit::Trial { .. } => {}
        }
    }

    fn failed(&self, trial: bool) {
        let mut circuit = self.lock();
        let pause = match *circuit {
            Circuit::Closed { failures } if failures + 1 < self.failures => {
                *circuit = Circuit::Closed { failures: failures + 1 };
                return;
            }
            Circuit::Closed { .. } => {
                let Self { what, failures, .. } = self;
                tracing::warn!(
                    "{what} pause for {FIRST_PAUSE:?}, after {failures} failed in a row"
                );
                FIRST_PAUSE
            }
            Circuit::Trial { pause } if trial => {
                let pause = (pause * 2).min(LONGEST_PAUSE);
                tracing::warn!("{} pause for {pause:?}: the last one failed", self.what);
                pause
            }
            Circuit::Open { .. } | Circuit::Trial { .. } => return,
        };
        *circuit = Circuit::Open { pause, until: (self.clock)() + pause };
    }

    /// A trial ended without an answer: its caller went away. The next caller makes another.
    fn abandoned(&self) {
        let mut circuit = self.lock();
        if let Circuit::Trial { pause } = *circuit {
            *circuit = Circuit::Open { pause, until: (self.clock)() };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to one use. Its holder reports how that went. Dropped without a report, it counts as not used.
pub struct Permit {
    breaker: Arc<CircuitBreaker>,
    trial: bool,
    reported: bool,
}

impl Permit {
    /// There was an answer.
    pub fn succeeded(mut self) {
        self.reported = true;
        self.breaker.succeeded(self.trial);
    }

    /// It failed, or there was no answer in time.
    pub fn failed(mut self) {
        self.reported = true;
        self.breaker.failed(self.trial);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.trial && !self.reported {
            self.breaker.abandoned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A breaker, and a function that lets time pass for it.
    fn breaker() -> (Arc<CircuitBreaker>, impl Fn(Duration)) {
        let now = Arc::new(Mutex::new(Instant::now()));
        let clock = Arc::clone(&now);
        let breaker =
            CircuitBreaker::new("reads", FAILURES, Box::new(move || *clock.lock().unwrap()));
        (Arc::new(breaker), move |duration| *now.lock().unwrap() += duration)
    }

    fn fail(breaker: &Arc<CircuitBreaker>) {
        breaker.permit().expect("the circuit is closed, or a trial is due").failed();
    }

    const FAILURES: u32 = 3;
    const ALMOST: Duration = Duration::from_millis(1);

    #[test]
    fn failures_in_a_row_open_it() {
        let (breaker, _) = breaker();
        for _ in 0..10 {
            fail(&breaker);
            fail(&breaker);
            breaker.permit().unwrap().succeeded();
        }
        assert!(!breaker.is_open());
        (0..FAILURES).for_each(|_| fail(&breaker));
        assert!(breaker.is_open());
        assert!(breaker.refuses());
        assert!(breaker.permit().is_none());
    }

    #[test]
    fn one_trial_after_the_pause_closes_it() {
        let (breaker, pass) = breaker();
        (0..FAILURES).for_each(|_| fail(&breaker));
        pass(FIRST_PAUSE - ALMOST);
        assert!(breaker.permit().is_none());
        pass(ALMOST);
        assert!(!breaker.refuses());
        let trial = breaker.permit().expect("a trial");
        assert!(breaker.permit().is_none(), "a second trial");
        assert!(breaker.refuses() && breaker.is_open());
        trial.succeeded();
        assert!(!breaker.is_open());
        // It counts from zero again.
        fail(&breaker);
        fail(&breaker);
        assert!(!breaker.is_open());
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (breaker, pass) = breaker();
        (0..FAILURES).for_each(|_| fail(&breaker));
        let mut pause = FIRST_PAUSE;
        for _ in 0..10 {
            pass(pause - ALMOST);
            assert!(breaker.permit().is_none(), "{pause:?}");
            pass(ALMOST);
            fail(&breaker);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        assert_eq!(pause, LONGEST_PAUSE);
    }

    #[test]
    fn an_abandoned_trial_is_made_again() {
        let (breaker, pass) = breaker();
        (0..FAILURES).for_each(|_| fail(&breaker));
        pass(FIRST_PAUSE);
        drop(breaker.permit().expect("a trial"));
        assert!(breaker.is_open());
        breaker.permit().expect("another trial").succeeded();
        assert!(!breaker.is_open());
    }

    #[test]
    fn an_abandoned_permit_changes_nothing() {
        let (breaker, _) = breaker();
        (0..10).for_each(|_| drop(breaker.permit().unwrap()));
        assert!(!breaker.is_open());
    }

    /// Several requests can be under way when the circuit opens.
    #[test]
    fn late_reports_do_not_move_an_open_circuit() {
        let (breaker, pass) = breaker();
        let late: Vec<Permit> = (0..4).map(|_| breaker.permit().unwrap()).collect();
        (0..FAILURES).for_each(|_| fail(&breaker));
        let mut late = late.into_iter();
        late.next().unwrap().failed();
        late.next().unwrap().succeeded();
        assert!(breaker.permit().is_none());
        pass(FIRST_PAUSE);
        let trial = breaker.permit().expect("the pause is still the first one");
        late.next().unwrap().succeeded();
        late.next().unwrap().failed();
        assert!(breaker.permit().is_none(), "the trial is still under way");
        trial.succeeded();
        assert!(!breaker.is_open());
    }
}
