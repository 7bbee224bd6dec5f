//! The dispatch latency of the thread pool against rayon's, on the products of a decoded token.
//!
//! `cargo bench -p colm-kernels --bench thread_pool`, about 10 seconds; `RAYON_NUM_THREADS` sets the number of threads.
//! A token is 50 matrix-vector products in sequence, each split into 4 tasks per thread, followed by a pause, as for
//! sampling. The table has the median time per product, and what that is above an equal share of the serial time: the
//! cost of dispatch.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rayon::prelude::*;

// The pool is private to the library. Only `for_each` is used here, and the tests in it are not run.
#[allow(dead_code, unused_imports)]
#[path = "../src/cpu/thread_pool/mod.rs"]
mod thread_pool;

const PRODUCTS_PER_TOKEN: usize = 50;
const TASKS_PER_THREAD: usize = 4;
const PAUSE: Duration = Duration::from_micros(100);
const TIME_PER_CASE: Duration = Duration::from_millis(700);

fn main() {
    let threads = rayon::current_num_threads();
    println!("{threads} threads, microseconds per product: median (above serial / {threads})");
    println!("{:>12} {:>10} {:>20} {:>20}", "[out, in]", "serial", "colm", "rayon");
    for (outputs, inputs) in [(1024, 1024), (512, 512), (256, 256)] {
        let product = Product::new(outputs, inputs, TASKS_PER_THREAD * threads);
        let serial = |count: usize, task: &(dyn Fn(usize) + Sync)| (0..count).for_each(task);
        let colm = |count: usize, task: &(dyn Fn(usize) + Sync)| thread_pool::for_each(count, task);
        let rayon = |count: usize, task: &(dyn Fn(usize) + Sync)| {
            (0..count).into_par_iter().with_max_len(1).for_each(task);
        };
        let [serial, colm, rayon] = product.medians([&serial, &colm, &rayon]);
        let above = |time: f64| format!("{time:.1} ({:+.1})", time - serial / threads as f64);
        println!(
            "{:>12} {serial:>10.1} {:>20} {:>20}",
            format!("[{outputs}, {inputs}]"),
            above(colm),
            above(rayon)
        );
    }
}

/// Runs a task for every index below a count.
type ForEach<'a> = &'a dyn Fn(usize, &(dyn Fn(usize) + Sync));

/// A matrix-vector product in f32, divided by outputs.
struct Product {
    matrix: Vec<f32>,
    x: Vec<f32>,
    outputs_per_task: usize,
}

impl Product {
    fn new(outputs: usize, inputs: usize, tasks: usize) -> Self {
        Self {
            matrix: vec![0.5; outputs * inputs],
            x: vec![0.25; inputs],
            outputs_per_task: outputs.div_ceil(tasks),
        }
    }

    /// Microseconds per product. The pools take turns token by token, so that other load on the machine affects all of
    /// them.
    fn medians<const N: usize>(&self, pools: [ForEach; N]) -> [f64; N] {
        let mut times = [const { Vec::new() }; N];
        let start = Instant::now();
        while start.elapsed() < N as u32 * TIME_PER_CASE {
            for (pool, times) in pools.iter().zip(&mut times) {
                std::thread::sleep(PAUSE);
                let token = Instant::now();
                for _ in 0..PRODUCTS_PER_TOKEN {
                    self.run(*pool);
                }
                times.push(token.elapsed().as_secs_f64() * 1e6 / PRODUCTS_PER_TOKEN as f64);
            }
        }
        times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
    }

    fn run(&self, for_each: ForEach) {
        let outputs: Vec<&[f32]> = self.matrix.chunks(self.x.len()).collect();
        let tasks: Vec<&[&[f32]]> = outputs.chunks(self.outputs_per_task).collect();
        for_each(tasks.len(), &|task| {
            for row in tasks[task] {
                black_box(dot(row, &self.x));
            }
        });
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    lanes.iter().sum()
}
