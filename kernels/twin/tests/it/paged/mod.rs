//! A step of attention over a paged KV cache: sequences with random keys and values, queries, the launches, and the
//! formula.

mod cache;
mod formula;
mod launch;

pub use cache::{Cache, Shape};
pub use launch::plan;

use colm_kernels_twin::attention::ChainHeads;
use colm_kernels_twin::Aligned;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::SeedableRng;

use crate::half_float::{random, HalfFloat};

/// Random numbers up to this have a variance of about 1.
pub const BOUND: f32 = 1.7;

/// Sequences with their keys and values in a cache.
pub struct Step<T> {
    pub cache: Cache<T>,
    tables: Vec<Vec<u32>>,
    /// `[position, kv_heads, head_dim]` of every sequence.
    sequences: Vec<(Vec<T>, Vec<T>)>,
    rng: StdRng,
}

/// A chain's queries on ranges of rows.
pub struct Chain<T> {
    pub heads: ChainHeads,
    /// (sequence, first position, rows)
    pub ranges: Vec<(usize, usize, usize)>,
    /// `[rows, q_stride]`
    pub q: Aligned<T>,
    pub q_stride: usize,
}

impl<T> Chain<T> {
    pub fn rows(&self) -> usize {
        self.ranges.iter().map(|range| range.2).sum()
    }
}

impl<T: HalfFloat> Step<T> {
    /// Random keys and values for sequences of `lengths`, in KV blocks in random order.
    pub fn new(seed: u64, lengths: &[usize], shape: Shape) -> Self {
        let needed: usize = lengths.iter().map(|length| length.div_ceil(shape.block_size)).sum();
        let mut free: Vec<u32> = (0..needed as u32 + 3).collect();
        // A generator of its own: the numbers do not depend on the order of the blocks.
        free.shuffle(&mut StdRng::seed_from_u64(needed as u64));
        let mut step = Self {
            cache: Cache::new(shape, free.len()),
            tables: Vec::new(),
            sequences: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
        };
        let width = shape.kv_heads * shape.head_dim;
        for &length in lengths {
            let table = free.split_off(free.len() - length.div_ceil(shape.block_size));
            let keys = random(&mut step.rng, length * width, BOUND);
            let values = random(&mut step.rng, length * width, BOUND);
            step.tables.push(table);
            step.sequences.push((keys, values));
            step.store(step.sequences.len() - 1);
        }
        step
    }

    /// Moves the sequences to other KV blocks.
    pub fn move_blocks(&mut self) {
        let mut blocks: Vec<u32> = self.tables.concat();
        blocks.reverse();
        self.cache.keys.as_mut_slice().fill(T::NAN);
        self.cache.values.as_mut_slice().fill(T::NAN);
        for sequence in 0..self.tables.len() {
            let rest = blocks.split_off(self.tables[sequence].len());
            self.tables[sequence] = std::mem::replace(&mut blocks, rest);
            self.store(sequence);
        }
    }

    fn store(&mut self, sequence: usize) {
        let Shape { kv_heads, head_dim, block_size } = self.cache.shape;
        let (keys, values) = &self.sequences[sequence];
        for row in 0..keys.len() / head_dim {
            let (position, head) = (row / kv_heads, row % kv_heads);
            let block = self.tables[sequence][position / block_size] as usize;
            let to = self.cache.row(block * block_size + position % block_size, head);
            let from = row * head_dim..(row + 1) * head_dim;
            self.cache.keys.as_mut_slice()[to..to + head_dim].copy_from_slice(&keys[from.clone()]);
            self.cache.values.as_mut_slice()[to..to + head_dim].copy_from_slice(&values[from]);
        }
    }

    /// Random queries of `heads` heads that read `kv_heads` key/value heads from `first_kv_head` on.
    pub fn chain(
        &mut self,
        heads: usize,
        first_kv_head: usize,
        kv_heads: usize,
        ranges: &[(usize, usize, usize)],
    ) -> Chain<T> {
        let rows: usize = ranges.iter().map(|range| range.2).sum();
        let q_stride = heads * self.cache.shape.head_dim;
        let heads = ChainHeads {
            heads: heads as i32,
            first_kv_head: first_kv_head as i32,
            kv_heads: kv_heads as i32,
        };
        let q = Aligned::new(&random(&mut self.rng, rows * q_stride, BOUND));
        Chain { heads, ranges: ranges.to_vec(), q, q_stride }
    }
}
