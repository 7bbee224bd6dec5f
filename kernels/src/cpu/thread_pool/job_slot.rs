//! The protocol by which a caller shares one job at a time with the workers.
//!
//! A job is a closure and a task count. Task indices are handed out by an atomic counter. The closure is borrowed from
//! the caller's stack, so `run` must not return or unwind while a worker may still call it. That is ensured by `open`
//! and `active`:
//!
//! - A worker increments `active`, then reads `open`, and reads the job only if it is open.
//! - The caller clears `open`, then waits until `active` is 0.
//!
//! Both sides access `active` with a read-modify-write operation, so one of the two comes first. If it is the worker's,
//! the caller waits for the worker. If it is the caller's, the worker sees `open` cleared. Sleeping uses the same
//! scheme with `sleeping` and `open`: either the worker sees the open job, or the caller sees the sleeping worker and
//! wakes it.
//!
//! `tests/thread_pool_loom.rs` checks the protocol under loom, in all interleavings that it can distinguish.

use std::any::Any;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::PoisonError;

use super::sync::{
    spin, AtomicBool, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, UnsafeCell,
};

/// The closure of a job, called with each task index.
type Job = *const (dyn Fn(usize) + Sync);

/// What an idle worker does between two looks at the slot.
pub(super) trait IdlePolicy {
    /// Called after the worker has worked or slept.
    fn reset(&mut self);

    /// Pauses briefly. Returns whether the worker should go to sleep.
    fn pause(&mut self) -> bool;
}

/// The state shared by the caller and the workers.
#[derive(Default)]
pub(super) struct JobSlot {
    /// Written by the caller while the slot is closed and no worker is active; read by active workers while it is open.
    job: UnsafeCell<Option<Job>>,
    open: AtomicBool,
    next_task: AtomicUsize,
    task_count: AtomicUsize,
    /// Workers that may be running tasks.
    active: AtomicUsize,
    /// Workers that sleep or are about to. Changed under `sleep_lock`.
    sleeping: AtomicUsize,
    sleep_lock: Mutex<()>,
    wake: Condvar,
    /// The payload of the first panic of a task in a worker.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    shutdown: AtomicBool,
}

// SAFETY: access to `job` follows the protocol above, and the closure it points to is `Sync`.
unsafe impl Sync for JobSlot {}
// SAFETY: the pointer in `job` is not used after the job is closed; all other fields are `Send`.
unsafe impl Send for JobSlot {}

impl JobSlot {
    /// Runs `task` for every index below `count`, together with the workers. Returns when all tasks are done. A panic
    /// of a task is passed on to the caller.
    ///
    /// At most one thread may be in this function at a time, and a task must not call it.
    pub(super) fn run<'a>(&self, count: usize, task: &'a (dyn Fn(usize) + Sync + 'a)) {
        let task: *const (dyn Fn(usize) + Sync + 'a) = task;
        // SAFETY: only the lifetime changes. `CloseOnDrop` keeps this function from returning or unwinding while a
        // worker may call the task.
        let job: Job = unsafe { std::mem::transmute(task) };
        // SAFETY: the slot is closed and no worker is active.
        self.job.with_mut(|slot| unsafe { *slot = Some(job) });
        // If a worker and the caller both panicked in the previous job, the worker's panic is still here. It must not end
        // this job.
        *lock(&self.panic) = None;
        self.task_count.store(count, Ordering::Relaxed);
        self.next_task.store(0, Ordering::Relaxed);
        // Release: a worker that sees the slot open sees the job and the counters.
        self.open.store(true, Ordering::Release);
        let close = CloseOnDrop(self);
        // A read-modify-write, not a load: see the module's documentation.
        if self.sleeping.fetch_add(0, Ordering::AcqRel) > 0 {
            let _guard = lock(&self.sleep_lock);
            self.wake.notify_all();
        }
        self.run_tasks(job);
        drop(close);
        if let Some(panic) = lock(&self.panic).take() {
            resume_unwind(panic);
        }
    }

    /// Worker loop: runs tasks until [`shut_down`](Self::shut_down).
    pub(super) fn work(&self, mut idle: impl IdlePolicy) {
        while !self.shutdown.load(Ordering::Relaxed) {
            if self.has_tasks() {
                self.join_job();
                idle.reset();
            } else if idle.pause() {
                self.sleep();
                idle.reset();
            }
        }
    }

    /// Ends the worker loops.
    pub(super) fn shut_down(&self) {
        let _guard = lock(&self.sleep_lock);
        self.shutdown.store(true, Ordering::Release);
        self.wake.notify_all();
    }

    fn has_tasks(&self) -> bool {
        self.open.load(Ordering::Acquire)
            && self.next_task.load(Ordering::Relaxed) < self.task_count.load(Ordering::Relaxed)
    }

    fn run_tasks(&self, job: Job) {
        // SAFETY: the closure lives until the job is closed and no worker is active.
        let task = unsafe { &*job };
        let count = self.task_count.load(Ordering::Relaxed);
        loop {
            let index = self.next_task.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            task(index);
        }
    }

    /// Runs tasks of the open job, if it is still open.
    pub(super) fn join_job(&self) {
        self.active.fetch_add(1, Ordering::AcqRel);
        if self.open.load(Ordering::Acquire) {
            // SAFETY: the caller wrote the job before it opened the slot, and writes the next one only when this worker
            // is no longer active.
            if let Some(job) = self.job.with(|slot| unsafe { *slot }) {
                let result = catch_unwind(AssertUnwindSafe(|| self.run_tasks(job)));
                if let Err(panic) = result {
                    lock(&self.panic).get_or_insert(panic);
                }
            }
        }
        // Release: the caller sees what the tasks wrote.
        self.active.fetch_sub(1, Ordering::AcqRel);
    }

    /// Sleeps until a job is open or the pool shuts down.
    fn sleep(&self) {
        let mut guard = lock(&self.sleep_lock);
        self.sleeping.fetch_add(1, Ordering::AcqRel);
        while !self.open.load(Ordering::Acquire) && !self.shutdown.load(Ordering::Acquire) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleeping.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Closes the job, even if a task of the caller panics.
struct CloseOnDrop<'a>(&'a JobSlot);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        let slot = self.0;
        // After a panic some tasks are left; no worker should start them.
        slot.next_task.fetch_max(slot.task_count.load(Ordering::Relaxed), Ordering::Relaxed);
        slot.open.store(false, Ordering::Release);
        // A read-modify-write, not a load: see the module's documentation. Workers that become active later see the
        // slot closed, so plain loads suffice from here on.
        let mut active = slot.active.fetch_add(0, Ordering::AcqRel);
        let mut spins = 0;
        while active > 0 {
            spin(&mut spins);
            active = slot.active.load(Ordering::Acquire);
        }
    }
}

/// A poisoned lock is safe to reuse: what these locks guard is replaced in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
