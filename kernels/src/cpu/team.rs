//! The threads of a step, awake until it is done.
//!
//! A decoded token is some fifty short products one after the other, each worth dividing and none worth
//! waking a sleeping thread for: that takes as long as a small product itself. So for the length of a
//! step the threads of the pool look out for shared work, and take the tasks of it one by one.

use std::cell::Cell;
use std::hint::spin_loop;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;
use rayon::Yield;

/// How often a thread that waits looks before it does something else.
const LOOKS: usize = 64;

thread_local! {
    /// The team of the step that runs on this thread; null outside of one, and within a task.
    static TEAM: Cell<*const Team> = const { Cell::new(ptr::null()) };
}

/// Runs `step` with the other threads of the pool awake: the functions of this crate that it calls share
/// their work with them at once.
///
/// Whatever else the pool has to do is done meanwhile, other steps included.
pub fn with_threads_awake<R: Send>(step: impl FnOnce() -> R + Send) -> R {
    let team = &Team::default();
    rayon::scope(|scope| {
        let home = rayon::current_thread_index();
        scope.spawn_broadcast(move |_, _| {
            // This thread gets here when its step is done.
            if rayon::current_thread_index() != home {
                team.help();
            }
        });
        let _leading = Leading::new(team);
        step()
    })
}

/// Runs `task` for every number below `count`, in any order and on all threads of the step. Outside of a step, on
/// those of the pool.
pub(crate) fn for_each(count: usize, task: impl Fn(usize) + Sync) {
    let team = TEAM.replace(ptr::null());
    // SAFETY: set by `Leading`, on this thread, to a team that lives as long as it is set.
    match unsafe { team.as_ref() } {
        _ if count < 2 => (0..count).for_each(task),
        Some(team) => team.share(count, &task),
        None => (0..count).into_par_iter().with_max_len(1).for_each(&task),
    }
    TEAM.set(team);
}

/// One thread leads: it alone shares work, and takes part in it. The others help.
#[derive(Default)]
struct Team {
    /// Shared work, while `open`.
    work: Cell<Option<Work>>,
    open: AtomicBool,
    /// The next task of it.
    next: AtomicUsize,
    /// Helpers that may be at it.
    helping: AtomicUsize,
    /// The step is done.
    done: AtomicBool,
}

#[derive(Clone, Copy)]
struct Work {
    count: usize,
    task: *const (dyn Fn(usize) + Sync),
}

// SAFETY: `work` is written by the leader while nobody is helping and read by helpers while it is open;
// tasks are called through shared references and are Sync.
unsafe impl Sync for Team {}

impl Team {
    /// Returns when all tasks are done.
    fn share<'a>(&self, count: usize, task: &'a (dyn Fn(usize) + Sync + 'a)) {
        let task: *const (dyn Fn(usize) + Sync + 'a) = task;
        // SAFETY: only the lifetime changes. Helpers call the task while the work is open or they are
        // counted as helping, and `Closing` waits for both to end before this function returns or unwinds.
        let task: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(task) };
        let work = Work { count, task };
        self.work.set(Some(work));
        self.next.store(0, Ordering::Relaxed);
        self.open.store(true, Ordering::SeqCst);
        let _closing = Closing(self);
        self.take_tasks(work);
    }

    fn take_tasks(&self, work: Work) {
        // SAFETY: the task is alive until the work is closed and nobody is helping.
        let task = unsafe { &*work.task };
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= work.count {
                return;
            }
            task(index);
        }
    }

    /// What the other threads do until the step is done.
    fn help(&self) {
        let mut looks = 0;
        while !self.done.load(Ordering::Acquire) {
            match self.open.load(Ordering::Acquire) && self.help_once() {
                true => looks = 0,
                false => wait(&mut looks),
            }
        }
    }

    /// Whether there were tasks left.
    fn help_once(&self) -> bool {
        // First counted, then asked again: either the work is still open, or the leader, who closes it before
        // it counts, knows.
        let _helping = Helping::new(&self.helping);
        if !self.open.load(Ordering::SeqCst) {
            return false;
        }
        // Written before the work was opened.
        let Some(work) = self.work.get() else { return false };
        let left = self.next.load(Ordering::Relaxed) < work.count;
        self.take_tasks(work);
        left
    }
}

/// Ends shared work, also if a task of the leader panics.
struct Closing<'a>(&'a Team);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.next.fetch_add(usize::MAX / 2, Ordering::Relaxed);
        self.0.open.store(false, Ordering::SeqCst);
        let mut looks = 0;
        while self.0.helping.load(Ordering::SeqCst) > 0 {
            wait(&mut looks);
        }
    }
}

/// A moment of waiting, in a thread of the pool. Now and then it does other work of the pool, for what it waits
/// for may wait for that; if there is none, other programs may have the processor.
fn wait(looks: &mut usize) {
    *looks += 1;
    if !looks.is_multiple_of(LOOKS) {
        spin_loop();
    } else if rayon::yield_now() != Some(Yield::Executed) {
        std::thread::yield_now();
    }
}

/// Counted while it lives, also if a task panics.
struct Helping<'a>(&'a AtomicUsize);

impl<'a> Helping<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Helping<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Makes this thread the leader of a team for as long as it lives; then the team goes home.
struct Leading<'a> {
    team: &'a Team,
    /// Of a step that waits on this thread for other work of the pool.
    outer: *const Team,
}

impl<'a> Leading<'a> {
    fn new(team: &'a Team) -> Self {
        Self { team, outer: TEAM.replace(team) }
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        TEAM.set(self.outer);
        self.team.done.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, AssertUnwindSafe};

    use rayon::{ThreadPool, ThreadPoolBuilder};

    use super::*;

    fn pool(threads: usize) -> ThreadPool {
        ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    /// Shared work of every size, the sums of which are known.
    fn step(rounds: usize) {
        for round in 0..rounds {
            let count = round % 9;
            let sum = AtomicUsize::new(0);
            for_each(count, |index| {
                // Some tasks share work themselves, in both ways.
                let inner = AtomicUsize::new(0);
                if index % 4 == 3 {
                    for_each(3, |more| {
                        inner.fetch_add(more, Ordering::Relaxed);
                    });
                    (0..3).into_par_iter().for_each(|less: usize| {
                        inner.fetch_sub(less, Ordering::Relaxed);
                    });
                }
                sum.fetch_add(1 + index + inner.into_inner(), Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), count * (count + 1) / 2);
        }
    }

    #[test]
    fn every_task_is_done_once() {
        for threads in [1, 2, 5] {
            pool(threads).install(|| with_threads_awake(|| step(5000)));
        }
        step(100);
    }

    #[test]
    fn steps_of_many_callers_and_steps_within_steps() {
        let pool = pool(3);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.install(|| {
                            with_threads_awake(|| {
                                step(20);
                                with_threads_awake(|| step(5));
                                step(5);
                            });
                        });
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_nobody_else() {
        let pool = pool(2);
        for bad in 0..6 {
            let step = || with_threads_awake(|| for_each(6, |index| assert_ne!(index, bad)));
            assert!(catch_unwind(AssertUnwindSafe(|| pool.install(step))).is_err());
        }
        pool.install(|| with_threads_awake(|| step(100)));
    }
}
