//! The threads that share the work of a step.
//!
//! A decoded token is some fifty short products one after the other, each worth dividing and none worth
//! waking a sleeping thread for: that takes as long as a small product itself. So threads that have
//! helped stay awake for a moment, and take the tasks of what comes next one by one. A helper runs tasks
//! and nothing else, and tasks wait for nobody, so nothing here can wait in a circle.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::hint::spin_loop;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a helper stays awake without work: longer than the engine takes from one step to the next.
const AWAKE: Duration = Duration::from_micros(300);

/// How often a thread that waits looks before it offers its processor to other programs.
const LOOKS: usize = 64;

thread_local! {
    /// Instead of the team of all threads, within [`with_threads`].
    static TEAM: RefCell<Option<Arc<Team>>> = const { RefCell::new(None) };
    /// Whether this thread is running a task: what that shares it does itself.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// Runs `run` with the work of this crate's functions shared by `count` threads, at least 1, instead of one per
/// core (or as many as the environment variable `RAYON_NUM_THREADS` says). Results do not depend on it.
pub fn with_threads<R>(count: usize, run: impl FnOnce() -> R) -> R {
    struct Before(Option<Arc<Team>>);
    impl Drop for Before {
        fn drop(&mut self) {
            TEAM.set(self.0.take());
        }
    }
    let _before = Before(TEAM.replace(Some(Arc::new(Team::of(count)))));
    run()
}

/// How many threads share work.
pub(crate) fn threads() -> usize {
    team().helpers.len() + 1
}

/// Runs `task` for every number below `count`, in any order. Only plain computation: a task must not wait for
/// other threads.
pub(crate) fn for_each(count: usize, task: impl Fn(usize) + Sync) {
    if count < 2 || IN_TASK.get() {
        return (0..count).for_each(task);
    }
    let team = team();
    let leader = match team.leader.try_lock() {
        Ok(leader) => Some(leader),
        // A task has panicked; its work was closed.
        Err(TryLockError::Poisoned(leader)) => Some(leader.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    };
    match leader {
        Some(_leader) => team.share(count, &task),
        // Where two steps run at once, the second one does its work alone.
        None => (0..count).for_each(task),
    }
}

/// Runs `task` for every chunk of `size` numbers, the last one perhaps shorter, and for its place.
pub(crate) fn for_each_chunk<T: Send>(
    numbers: &mut [T],
    size: usize,
    task: impl Fn(usize, &mut [T]) + Sync,
) {
    struct Start<T>(*mut T);
    // SAFETY: stands for the slice, of which every task has a part of its own.
    unsafe impl<T: Send> Sync for Start<T> {}
    let (start, len, size) = (Start(numbers.as_mut_ptr()), numbers.len(), size.max(1));
    let start = &start;
    for_each(len.div_ceil(size), |index| {
        let first = index * size;
        // SAFETY: within the slice, which is borrowed for as long; no other task has these numbers.
        let chunk =
            unsafe { std::slice::from_raw_parts_mut(start.0.add(first), size.min(len - first)) };
        task(index, chunk);
    });
}

fn team() -> Arc<Team> {
    static ALL: OnceLock<Arc<Team>> = OnceLock::new();
    let own = TEAM.with_borrow(Clone::clone);
    own.unwrap_or_else(|| {
        ALL.get_or_init(|| Arc::new(Team::of(rayon::current_num_threads()))).clone()
    })
}

/// Helpers, and the work that a leader shares with them.
struct Team {
    /// Held by the one thread that shares work.
    leader: Mutex<()>,
    board: Arc<Board>,
    helpers: Vec<JoinHandle<()>>,
}

/// What leader and helpers both see.
#[derive(Default)]
struct Board {
    /// The work, while `open`.
    work: Cell<Option<Work>>,
    open: AtomicBool,
    /// The next task of it, and how many there are.
    next: AtomicUsize,
    count: AtomicUsize,
    /// Helpers that may be at it.
    helping: AtomicUsize,
    /// Helpers that sleep or are about to; under `sleep`.
    sleeping: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    /// What a task has panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// There will be no more work.
    done: AtomicBool,
}

/// What is run for the number of every task.
type Work = *const (dyn Fn(usize) + Sync);

// SAFETY: `work` is written by the leader while nobody is helping and read by helpers while it is open;
// tasks are called through shared references and are Sync.
unsafe impl Sync for Board {}
// SAFETY: as above; the pointer in `work` is not used once the work is closed.
unsafe impl Send for Board {}

impl Team {
    /// The leader and `threads - 1` helpers; fewer where the system gives no more.
    fn of(threads: usize) -> Self {
        let board = Arc::new(Board::default());
        let helper = |number: usize| {
            let board = board.clone();
            thread::Builder::new().name(format!("colm-{number}")).spawn(move || board.help())
        };
        let helpers = (1..threads).map_while(|number| helper(number).ok()).collect();
        Self { leader: Mutex::new(()), board, helpers }
    }

    /// Returns when all tasks are done.
    fn share<'a>(&self, count: usize, task: &'a (dyn Fn(usize) + Sync + 'a)) {
        let board = &self.board;
        let task: *const (dyn Fn(usize) + Sync + 'a) = task;
        // SAFETY: only the lifetime changes. Helpers call the task while the work is open or they are
        // counted as helping, and `Closing` waits for both to end before this function returns or unwinds.
        let work: Work = unsafe { std::mem::transmute(task) };
        board.work.set(Some(work));
        board.count.store(count, Ordering::Relaxed);
        board.next.store(0, Ordering::Relaxed);
        board.open.store(true, Ordering::SeqCst);
        let closing = Closing(board);
        if board.sleeping.load(Ordering::SeqCst) > 0 {
            let _sleep = lock(&board.sleep);
            board.wake.notify_all();
        }
        IN_TASK.set(true);
        board.take_tasks(work);
        drop(closing);
        if let Some(panic) = lock(&board.panic).take() {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.board.done.store(true, Ordering::SeqCst);
        {
            let _sleep = lock(&self.board.sleep);
            self.board.wake.notify_all();
        }
        for helper in self.helpers.drain(..) {
            // Its tasks' panics were caught.
            let _ = helper.join();
        }
    }
}

impl Board {
    fn take_tasks(&self, work: Work) {
        // SAFETY: the task is alive until the work is closed and nobody is helping.
        let task = unsafe { &*work };
        let count = self.count.load(Ordering::Relaxed);
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            task(index);
        }
    }

    /// What a helper does all its life.
    fn help(&self) {
        IN_TASK.set(true);
        let mut looks = 0;
        let mut idle_since = Instant::now();
        while !self.done.load(Ordering::Relaxed) {
            if self.has_tasks() {
                self.help_once();
                (looks, idle_since) = (0, Instant::now());
                continue;
            }
            wait(&mut looks);
            if looks.is_multiple_of(LOOKS) && idle_since.elapsed() > AWAKE {
                self.sleep();
                (looks, idle_since) = (0, Instant::now());
            }
        }
    }

    fn has_tasks(&self) -> bool {
        self.open.load(Ordering::Acquire)
            && self.next.load(Ordering::Relaxed) < self.count.load(Ordering::Relaxed)
    }

    fn help_once(&self) {
        // First counted, then asked again: either the work is still open, or the leader, who closes it before
        // it counts, knows.
        self.helping.fetch_add(1, Ordering::SeqCst);
        if self.open.load(Ordering::SeqCst) {
            // Written before the work was opened.
            if let Some(work) = self.work.get() {
                let tasks = catch_unwind(AssertUnwindSafe(|| self.take_tasks(work)));
                if let Err(panic) = tasks {
                    lock(&self.panic).get_or_insert(panic);
                }
            }
        }
        self.helping.fetch_sub(1, Ordering::SeqCst);
    }

    /// Until there is work.
    fn sleep(&self) {
        let mut sleep = lock(&self.sleep);
        // First counted, then asked: either there is work to be seen, or who brings some sees the sleeper.
        self.sleeping.fetch_add(1, Ordering::SeqCst);
        while !self.open.load(Ordering::SeqCst) && !self.done.load(Ordering::SeqCst) {
            sleep = self.wake.wait(sleep).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleeping.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ends shared work, also if a task of the leader panics.
struct Closing<'a>(&'a Board);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        IN_TASK.set(false);
        // After a panic some are left.
        self.0.next.fetch_max(self.0.count.load(Ordering::Relaxed), Ordering::Relaxed);
        self.0.open.store(false, Ordering::SeqCst);
        let mut looks = 0;
        while self.0.helping.load(Ordering::SeqCst) > 0 {
            wait(&mut looks);
        }
    }
}

/// A moment.
fn wait(looks: &mut usize) {
    *looks += 1;
    match looks.is_multiple_of(LOOKS) {
        true => thread::yield_now(),
        false => spin_loop(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shared work of every size, the sums of which are known.
    fn step(rounds: usize) {
        for round in 0..rounds {
            let count = round % 9;
            let sum = AtomicUsize::new(0);
            for_each(count, |index| {
                // Some tasks share work themselves.
                let inner = AtomicUsize::new(0);
                for_each(index % 3, |more| {
                    inner.fetch_add(more, Ordering::Relaxed);
                });
                let inner = inner.into_inner();
                assert_eq!(inner, usize::from(index % 3 == 2));
                sum.fetch_add(1 + index, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), count * (count + 1) / 2);
        }
    }

    #[test]
    fn every_task_is_done_once() {
        for threads in [1, 2, 5] {
            with_threads(threads, || step(5000));
        }
        step(5000);
    }

    #[test]
    fn every_chunk_is_visited_once() {
        let mut numbers: Vec<usize> = (0..1000).collect();
        for size in [1, 7, 1000, 2000] {
            for_each_chunk(&mut numbers, size, |index, chunk| {
                assert!(chunk.len() == size || index == 1000 / size);
                chunk.iter_mut().for_each(|number| *number += index * size);
                for (at, number) in chunk.iter_mut().enumerate() {
                    *number -= index * size;
                    assert_eq!(*number % 1000, index * size + at);
                    *number += 1000;
                }
            });
        }
        assert!(numbers.iter().enumerate().all(|(at, &number)| number == at + 4000));
    }

    #[test]
    fn helpers_that_sleep_are_woken() {
        for _ in 0..200 {
            step(4);
            thread::sleep(2 * AWAKE);
        }
    }

    #[test]
    fn steps_of_many_callers_at_once() {
        with_threads(3, || {
            let team = team();
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        TEAM.set(Some(team.clone()));
                        step(5000);
                    });
                }
            });
        });
        rayon::scope(|scope| (0..8).for_each(|_| scope.spawn(|_| step(2000))));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_nobody_else() {
        with_threads(3, || {
            for bad in 0..40 {
                let bad_step = || for_each(40, |index| assert!(index != bad, "task {index}"));
                let panic = catch_unwind(AssertUnwindSafe(bad_step)).unwrap_err();
                assert_eq!(*panic.downcast::<String>().unwrap(), format!("task {bad}"));
                step(20);
            }
        });
    }
}
