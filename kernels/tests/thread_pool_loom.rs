//! Checks the protocol of the thread pool under loom, which runs every interleaving of a model that it can distinguish,
//! including those that only a weak memory model allows.
//!
//! `job_slot.rs` is compiled here a second time, with loom's primitives in place of the standard library's. Loom
//! reports data races on the job, and deadlocks. The tests add that every task runs exactly once, that the caller sees
//! what tasks wrote, and that no task accesses the caller's data after `run` has returned. A missed wake-up is not
//! detected: it costs speed only, because the caller runs the tasks that no worker takes.

// Private to the library.
#[path = "../src/cpu/thread_pool/job_slot.rs"]
mod job_slot;

/// Loom's versions of what `src/cpu/thread_pool/sync.rs` has.
mod sync {
    pub use loom::cell::UnsafeCell;
    pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    pub use loom::sync::{Condvar, Mutex, MutexGuard};

    /// Loom requires a spin loop to yield.
    pub fn spin(_spins: &mut usize) {
        loom::thread::yield_now();
    }
}

use job_slot::{IdlePolicy, JobSlot};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// A worker that sleeps as soon as it has nothing to do.
struct SleepAtOnce;

impl IdlePolicy for SleepAtOnce {
    fn reset(&mut self) {}

    fn pause(&mut self) -> bool {
        // The job may still be open, with no tasks left: then the worker does not sleep, but spins.
        thread::yield_now();
        true
    }
}

/// A worker that never sleeps.
struct SpinForever;

impl IdlePolicy for SpinForever {
    fn reset(&mut self) {}

    fn pause(&mut self) -> bool {
        thread::yield_now();
        false
    }
}

/// Explores `test` with up to `preemptions` preemptions per interleaving.
fn model(preemptions: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(test);
}

/// A number of a caller that one task increments.
struct Counter(UnsafeCell<usize>);

// SAFETY: a task writes only its own counter, and the caller reads it after the job. Loom checks both.
unsafe impl Sync for Counter {}

/// Runs a job of `tasks` tasks on data of this call, and checks it afterwards.
fn run_job(slot: &JobSlot, tasks: usize) {
    let counters: Vec<Counter> = (0..tasks).map(|_| Counter(UnsafeCell::new(0))).collect();
    // SAFETY: see `Counter`.
    slot.run(tasks, &|index| counters[index].0.with_mut(|counter| unsafe { *counter += 1 }));
    for counter in &counters {
        // As a write, so that loom reports any access of a worker that is not ordered before it. SAFETY: the job is
        // over.
        counter.0.with_mut(|counter| assert_eq!(unsafe { *counter }, 1));
    }
}

/// Runs jobs with a worker in its loop.
fn run_jobs<I: IdlePolicy + 'static>(jobs: usize, tasks: usize, idle: fn() -> I) {
    let slot = Arc::new(JobSlot::default());
    let worker = {
        let slot = slot.clone();
        thread::spawn(move || slot.work(idle()))
    };
    for _ in 0..jobs {
        run_job(&slot, tasks);
    }
    slot.shut_down();
    worker.join().unwrap();
}

#[test]
fn two_jobs_with_a_worker_that_sleeps() {
    model(2, || run_jobs(2, 2, || SleepAtOnce));
}

#[test]
fn two_jobs_with_a_worker_that_spins() {
    model(2, || run_jobs(2, 2, || SpinForever));
}

/// Two workers that look at the slot once each, at any time before, during and after the jobs. (In the worker loop they
/// would spin while a job is open without tasks left. Loom cannot explore two threads that spin.)
#[test]
fn two_jobs_with_two_workers() {
    model(3, || {
        let slot = Arc::new(JobSlot::default());
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let slot = slot.clone();
                thread::spawn(move || slot.join_job())
            })
            .collect();
        run_job(&slot, 2);
        run_job(&slot, 1);
        for worker in workers {
            worker.join().unwrap();
        }
    });
}
