//! Admission: how many requests are in progress, and whether another one may wait.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;

use super::elastic::Elastic;
use super::error::ApiError;
use crate::{ChainCount, Error};

/// Counts the requests in progress and the answers that they ask for. Refuses more answers than may run and wait.
#[derive(Clone, Debug)]
pub(super) struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    elastic: Elastic,
    /// How many sequences run at once, and how many answers may run and wait.
    max_seqs: usize,
    max_answers: usize,
    requests: AtomicUsize,
    answers: AtomicUsize,
    /// Whether the server stops and takes no more requests.
    draining: AtomicBool,
    run_times: RunTimes,
}

/// How long answers have run lately, without the time that they have waited.
#[derive(Clone, Debug, Default)]
pub(super) struct RunTimes(Arc<Mutex<Option<Duration>>>);

impl RunTimes {
    /// Adds the time of an answer.
    pub(super) fn add(&self, time: Duration) {
        let mut mean = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *mean = Some(mean.map_or(time, |mean| (7 * mean + time) / 8));
    }

    /// The mean over the last few answers; 0 if there are none.
    fn mean(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or_default()
    }
}

impl Admission {
    pub(super) fn new(elastic: Elastic, max_seqs: usize, max_queue: usize) -> Self {
        Self(Arc::new(Shared {
            elastic,
            max_seqs,
            max_answers: max_seqs.saturating_add(max_queue),
            requests: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            run_times: RunTimes::default(),
        }))
    }

    /// Admits a request with one answer. It is active until the returned guard is dropped.
    ///
    /// # Errors
    /// If as many answers run and wait as may (status 429), or if the server stops (503).
    pub(super) fn enter(&self) -> Result<ActiveRequest, ApiError> {
        if self.is_draining() {
            return Err(Error::Stopped.into());
        }
        self.0.add_answers(1)?;
        Ok(ActiveRequest {
            at_arrival: self.0.requests.fetch_add(1, Ordering::Relaxed) + 1,
            answers: AtomicUsize::new(1),
            began: Instant::now(),
            shared: self.0.clone(),
        })
    }

    /// The chain count of a request that does not name one, of `loaded` chains.
    pub(super) fn chains(&self, request: &ActiveRequest, loaded: ChainCount) -> ChainCount {
        self.0.elastic.chains(request.at_arrival, loaded)
    }

    /// The requests in progress.
    pub(super) fn requests(&self) -> usize {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// Refuses all further requests.
    pub(super) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn add_answers(&self, count: usize) -> Result<(), ApiError> {
        let admit = |answers: usize| {
            answers.checked_add(count).filter(|answers| *answers <= self.max_answers)
        };
        match self.answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit) {
            Ok(_) => Ok(()),
            Err(answers) => Err(self.full(answers, count)),
        }
    }

    fn full(&self, answers: usize, count: usize) -> ApiError {
        let most = self.max_answers;
        let message = format!(
            "the server is busy: {answers} answers run or wait, this request asks for {count} more, and {most} is the \
             most (--max-seqs and --max-queue)"
        );
        let error = ApiError::new(message).with_status(StatusCode::TOO_MANY_REQUESTS);
        error.with_code("server_busy").with_retry_after(self.wait(answers))
    }

    /// How long it takes until one of `answers` has ended and all that wait have started, as far as is known.
    fn wait(&self, answers: usize) -> Duration {
        let rounds = answers.div_ceil(self.max_seqs.max(1)) as u32;
        self.run_times.mean().saturating_mul(rounds).clamp(MIN_WAIT, MAX_WAIT)
    }
}

/// The bounds of `Retry-After`.
const MIN_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Guard of an active request.
#[derive(Debug)]
pub(super) struct ActiveRequest {
    /// The number of active requests when it arrived, including itself.
    at_arrival: usize,
    answers: AtomicUsize,
    began: Instant,
    shared: Arc<Shared>,
}

impl ActiveRequest {
    /// Where the times of its answers go.
    pub(super) fn run_times(&self) -> RunTimes {
        self.shared.run_times.clone()
    }

    /// When it was admitted.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Admits `answers` answers instead of one. Their number comes from `field`.
    ///
    /// # Errors
    /// If more answers would run and wait than may: status 429, or 400 if that many never can.
    pub(super) fn admit(&self, answers: usize, field: &str) -> Result<(), ApiError> {
        let most = self.shared.max_answers;
        if answers > most {
            let message = format!(
                "{answers} answers: expected at most {most}, which this server runs and queues (--max-seqs and \
                 --max-queue)"
            );
            return Err(ApiError::invalid_value(field, message));
        }
        let more = answers.saturating_sub(self.answers.load(Ordering::Relaxed));
        self.shared.add_answers(more)?;
        self.answers.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.shared.requests.fetch_sub(1, Ordering::Relaxed);
        self.shared.answers.fetch_sub(self.answers.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn k(k: usize) -> ChainCount {
        ChainCount::new(k, 4).unwrap()
    }

    #[test]
    fn a_request_is_active_until_its_guard_is_dropped() {
        let admission = Admission::new("2:1".parse().unwrap(), 4, 4);
        let first = admission.enter().unwrap();
        let second = admission.enter().unwrap();
        let chains = [&first, &second].map(|request| admission.chains(request, k(4)));
        assert_eq!(chains, [k(4), k(1)]);
        assert_eq!(admission.requests(), 2);
        drop(first);
        drop(second);
        assert_eq!(admission.chains(&admission.enter().unwrap(), k(4)), k(4));
    }

    #[test]
    fn more_answers_than_may_wait_are_refused() {
        let admission = Admission::new(Elastic::default(), 2, 3);
        let many = admission.enter().unwrap();
        many.admit(4, "n").unwrap();
        let last = admission.enter().unwrap();
        let full = admission.enter().unwrap_err();
        assert_eq!(full.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(full.message.contains("5 answers run or wait"), "{}", full.message);
        assert!(last.admit(2, "n").is_err());
        drop(many);
        last.admit(5, "n").unwrap();
        let never = last.admit(6, "n").unwrap_err();
        assert_eq!((never.status, never.param.as_deref()), (StatusCode::BAD_REQUEST, Some("n")));
        drop(last);
        assert_eq!(admission.0.answers.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_draining_server_admits_nothing() {
        let admission = Admission::new(Elastic::default(), 2, 3);
        admission.drain();
        assert_eq!(admission.enter().unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn the_time_to_wait_grows_with_the_queue() {
        let admission = Admission::new(Elastic::default(), 2, 100);
        assert_eq!(admission.0.wait(2), MIN_WAIT);
        // A request that is refused takes no time of the engine.
        drop(admission.enter().unwrap());
        assert_eq!(admission.0.wait(2), MIN_WAIT);
        admission.enter().unwrap().run_times().add(Duration::from_secs(3));
        assert_eq!(admission.0.wait(2), Duration::from_secs(3));
        assert_eq!(admission.0.wait(20), Duration::from_secs(30));
        assert_eq!(admission.0.wait(90), MAX_WAIT);
    }
}
