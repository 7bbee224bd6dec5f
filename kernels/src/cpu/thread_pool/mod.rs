//! The thread pool that shares the work of a step.
//!
//! A decoded token is some fifty short products in sequence. Each is worth splitting across cores, but waking a
//! sleeping thread takes as long as a small product itself. The workers therefore spin for [`SPIN_TIME`] after the last
//! job before they sleep, and take the tasks of the next job one by one.
//!
//! Rayon's pool is not used because its workers sleep sooner and its jobs are split recursively.
//! `benches/thread_pool.rs` compares the two on the products of a decoded token. On 2 cores of an AMD EPYC, in
//! microseconds per matrix-vector product in f32 (November 2026, with real-time priority, because the machine was
//! shared):
//!
//! | \[outputs, inputs\] | one thread | this pool | rayon |
//! |---|---:|---:|---:|
//! | \[1024, 1024\] | 87.2 | 53.5 | 61.3 |
//! | \[512, 512\] | 24.8 | 18.7 | 26.2 |
//! | \[256, 256\] | 7.2 | 8.3 | 17.4 |
//!
//! Tasks are plain computations and never wait for each other, so the pool cannot deadlock. The hand-over of a job is
//! in [`job_slot`].

mod job_slot;
mod sync;

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use job_slot::{IdlePolicy, JobSlot};
use sync::{spin, SPINS_PER_YIELD};

/// How long an idle worker spins before it sleeps: longer than the engine takes between two steps.
const SPIN_TIME: Duration = Duration::from_micros(300);

thread_local! {
    /// The pool of this thread within [`with_threads`], instead of the global one.
    static LOCAL_POOL: RefCell<Option<Arc<ThreadPool>>> = const { RefCell::new(None) };
    /// Whether this thread is running a task. A task runs its nested work itself.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// Runs `run` with this crate's functions using `count` threads, at least 1, including the calling one. The default is
/// one thread per core, or the environment variable `RAYON_NUM_THREADS`. Results do not depend on it.
///
/// Applies to the calling thread only, until `run` returns.
pub fn with_threads<R>(count: usize, run: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<ThreadPool>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            LOCAL_POOL.set(self.0.take());
        }
    }
    let _restore = Restore(LOCAL_POOL.replace(Some(Arc::new(ThreadPool::new(count)))));
    run()
}

/// The number of threads that share work, including the caller.
pub(crate) fn thread_count() -> usize {
    current_pool().workers.len() + 1
}

/// Runs `task` for every index below `count`, in any order. A task must not wait for other threads.
pub(crate) fn for_each(count: usize, task: impl Fn(usize) + Sync) {
    if count < 2 || IN_TASK.get() {
        return (0..count).for_each(task);
    }
    let pool = current_pool();
    let caller = match pool.caller.try_lock() {
        Ok(caller) => Some(caller),
        // A task has panicked. The slot was closed before the panic was passed on.
        Err(TryLockError::Poisoned(caller)) => Some(caller.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    };
    match caller {
        Some(_caller) => {
            let _in_task = InTask::enter();
            pool.slot.run(count, &task);
        }
        // Another thread is using the workers: this one does its work alone.
        None => (0..count).for_each(task),
    }
}

/// Runs `task(index, chunk)` for every chunk of `size` items; the last may be shorter.
pub(crate) fn for_each_chunk<T: Send>(
    items: &mut [T],
    size: usize,
    task: impl Fn(usize, &mut [T]) + Sync,
) {
    struct Start<T>(*mut T);
    // SAFETY: the tasks access disjoint parts of the slice that the pointer stands for.
    unsafe impl<T: Send> Sync for Start<T> {}
    let (start, len, size) = (Start(items.as_mut_ptr()), items.len(), size.max(1));
    let start = &start;
    for_each(len.div_ceil(size), |index| {
        let first = index * size;
        // SAFETY: the chunk is within the slice, which stays mutably borrowed; chunks are disjoint.
        let chunk =
            unsafe { std::slice::from_raw_parts_mut(start.0.add(first), size.min(len - first)) };
        task(index, chunk);
    });
}

fn current_pool() -> Arc<ThreadPool> {
    static GLOBAL_POOL: OnceLock<Arc<ThreadPool>> = OnceLock::new();
    let local = LOCAL_POOL.with_borrow(Clone::clone);
    local.unwrap_or_else(|| {
        GLOBAL_POOL.get_or_init(|| Arc::new(ThreadPool::new(rayon::current_num_threads()))).clone()
    })
}

/// The workers and the slot through which a caller shares a job with them.
struct ThreadPool {
    /// Locked by the thread that shares a job.
    caller: Mutex<()>,
    slot: Arc<JobSlot>,
    workers: Vec<JoinHandle<()>>,
}

impl ThreadPool {
    /// `threads - 1` workers beside the caller; fewer if the system cannot start as many.
    fn new(threads: usize) -> Self {
        let slot = Arc::new(JobSlot::default());
        let spawn = |number: usize| {
            let slot = slot.clone();
            thread::Builder::new().name(format!("colm-{number}")).spawn(move || {
                IN_TASK.set(true);
                slot.work(SpinThenSleep::new());
            })
        };
        let workers = (1..threads).map_while(|number| spawn(number).ok()).collect();
        Self { caller: Mutex::new(()), slot, workers }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.slot.shut_down();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so it does not panic itself.
            let _ = worker.join();
        }
    }
}

/// Spins for [`SPIN_TIME`], then sleeps.
struct SpinThenSleep {
    spins: usize,
    idle_since: Instant,
}

impl SpinThenSleep {
    fn new() -> Self {
        Self { spins: 0, idle_since: Instant::now() }
    }
}

impl IdlePolicy for SpinThenSleep {
    fn reset(&mut self) {
        *self = Self::new();
    }

    fn pause(&mut self) -> bool {
        spin(&mut self.spins);
        self.spins.is_multiple_of(SPINS_PER_YIELD) && self.idle_since.elapsed() > SPIN_TIME
    }
}

/// Sets [`IN_TASK`] while the caller of a job runs tasks itself.
struct InTask;

impl InTask {
    fn enter() -> Self {
        IN_TASK.set(true);
        Self
    }
}

impl Drop for InTask {
    fn drop(&mut self) {
        IN_TASK.set(false);
    }
}

#[cfg(test)]
mod tests;
