use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Runs jobs of 0 to 8 tasks and checks their sums. Some tasks run nested jobs.
fn run_jobs(rounds: usize) {
    for round in 0..rounds {
        let count = round % 9;
        let sum = AtomicUsize::new(0);
        for_each(count, |index| {
            let nested = AtomicUsize::new(0);
            for_each(index % 3, |nested_index| {
                nested.fetch_add(nested_index, Ordering::Relaxed);
            });
            assert_eq!(nested.into_inner(), usize::from(index % 3 == 2));
            sum.fetch_add(1 + index, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), count * (count + 1) / 2);
    }
}

#[test]
fn every_task_runs_once() {
    for threads in [1, 2, 5] {
        with_threads(threads, || run_jobs(5000));
    }
    run_jobs(5000);
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
fn sleeping_workers_are_woken() {
    for _ in 0..200 {
        run_jobs(4);
        thread::sleep(2 * SPIN_TIME);
    }
}

#[test]
fn concurrent_callers_share_a_pool() {
    with_threads(3, || {
        let pool = current_pool();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    LOCAL_POOL.set(Some(pool.clone()));
                    run_jobs(5000);
                });
            }
        });
    });
    rayon::scope(|scope| (0..8).for_each(|_| scope.spawn(|_| run_jobs(2000))));
}

#[test]
fn panics_of_all_threads_do_not_reach_the_next_job() {
    with_threads(3, || {
        let inside = AtomicUsize::new(0);
        let bad_job = || {
            for_each(3, |_| {
                inside.fetch_add(1, Ordering::Relaxed);
                while inside.load(Ordering::Relaxed) < 3 {
                    std::thread::yield_now();
                }
                panic!("on every thread");
            });
        };
        catch_unwind(AssertUnwindSafe(bad_job)).unwrap_err();
        run_jobs(20);
    });
}

#[test]
fn a_panic_reaches_only_its_caller() {
    with_threads(3, || {
        for bad in 0..40 {
            let bad_job = || for_each(40, |index| assert!(index != bad, "task {index}"));
            let panic = catch_unwind(AssertUnwindSafe(bad_job)).unwrap_err();
            assert_eq!(*panic.downcast::<String>().unwrap(), format!("task {bad}"));
            run_jobs(20);
        }
    });
}
