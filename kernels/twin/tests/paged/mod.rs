//! A paged KV cache for tests, and the formula of attention in f64: no tiles, no online softmax.

// Each test binary uses only part of it.
#![allow(dead_code)]

use std::fmt::Debug;

use colm_kernels_twin::attention::{
    colm_attention_plan, colm_chain_attention, AttentionItem, AttentionPlan, ChainHeads,
    ChainTensors, KvBlocks, QueryRange,
};
use colm_kernels_twin::limits::DECODE_QUERIES;
use colm_kernels_twin::{status_text, Aligned, Number, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// The dtypes of tensors.
pub trait Float: Number + Debug + PartialEq {
    const DTYPE: i32;
    /// The largest accepted error of a head, relative to its norm.
    const TOLERANCE: f64;
    const NAN: Self;
    fn rounded(x: f32) -> Self;
    fn wide(self) -> f64;
    fn bits(self) -> u16;
}

impl Float for bf16 {
    const DTYPE: i32 = 0;
    const TOLERANCE: f64 = 1e-2;
    const NAN: Self = bf16::NAN;
    fn rounded(x: f32) -> Self {
        bf16::from_f32(x)
    }
    fn wide(self) -> f64 {
        self.to_f64()
    }
    fn bits(self) -> u16 {
        self.to_bits()
    }
}

impl Float for f16 {
    const DTYPE: i32 = 1;
    const TOLERANCE: f64 = 2e-3;
    const NAN: Self = f16::NAN;
    fn rounded(x: f32) -> Self {
        f16::from_f32(x)
    }
    fn wide(self) -> f64 {
        self.to_f64()
    }
    fn bits(self) -> u16 {
        self.to_bits()
    }
}

pub fn random<T: Float>(rng: &mut StdRng, count: usize) -> Vec<T> {
    (0..count).map(|_| T::rounded(rng.random_range(-1.7..1.7))).collect()
}

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub kv_heads: usize,
    pub head_dim: usize,
    pub block_size: usize,
}

/// One layer's cache. It is NaN where nothing was written, so that reading there is detected.
pub struct Cache<T> {
    pub shape: Shape,
    pub keys: Aligned<T>,
    pub values: Aligned<T>,
}

impl<T: Float> Cache<T> {
    pub fn new(shape: Shape, blocks: usize) -> Self {
        let numbers = vec![T::NAN; blocks * shape.kv_heads * shape.block_size * shape.head_dim];
        Self { shape, keys: Aligned::new(&numbers), values: Aligned::new(&numbers) }
    }

    /// The index of the first number of a key or value, in either tensor.
    pub fn row(&self, slot: usize, head: usize) -> usize {
        let Shape { kv_heads, head_dim, block_size } = self.shape;
        ((slot / block_size * kv_heads + head) * block_size + slot % block_size) * head_dim
    }

    pub fn blocks(&mut self) -> KvBlocks {
        KvBlocks {
            keys: self.keys.as_mut_ptr().cast(),
            values: self.values.as_mut_ptr().cast(),
            kv_heads: self.shape.kv_heads as i32,
            block_size: self.shape.block_size as i32,
        }
    }
}

/// Sequences with their keys and values in a cache.
pub struct Step<T> {
    pub cache: Cache<T>,
    pub tables: Vec<Vec<u32>>,
    /// `[position, kv_heads, head_dim]` of every sequence.
    sequences: Vec<(Vec<T>, Vec<T>)>,
    pub rng: StdRng,
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

impl<T: Float> Step<T> {
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
            let keys = random(&mut step.rng, length * width);
            let values = random(&mut step.rng, length * width);
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
        let q = Aligned::new(&random(&mut self.rng, rows * q_stride));
        Chain { heads, ranges: ranges.to_vec(), q, q_stride }
    }

    /// Runs the launchers. Returns per chain `[rows, heads, head_dim]`.
    pub fn attend(&mut self, chains: &[Chain<T>], scale: f32) -> Vec<Vec<T>> {
        self.try_attend(chains, scale).unwrap_or_else(|status| panic!("{}", status_text(status)))
    }

    pub fn try_attend(&mut self, chains: &[Chain<T>], scale: f32) -> Result<Vec<Vec<T>>, i32> {
        let head_dim = self.cache.shape.head_dim;
        let heads: Vec<_> = chains.iter().map(|chain| chain.heads).collect();
        let (items, plan) = plan(chains)?;
        let mut outs: Vec<_> = chains
            .iter()
            .map(|chain| {
                Aligned::new(&vec![T::NAN; chain.rows() * chain.heads.heads as usize * head_dim])
            })
            .collect();
        let tensors: Vec<_> = chains
            .iter()
            .zip(&mut outs)
            .map(|(chain, out)| ChainTensors {
                q: chain.q.as_ptr().cast(),
                out: out.as_mut_ptr().cast(),
                q_stride: chain.q_stride as i64,
            })
            .collect();
        let max_blocks = self.tables.iter().map(Vec::len).max().unwrap_or(0);
        // The tables are padded with a block that does not exist.
        let tables: Vec<u32> = self
            .tables
            .iter()
            .flat_map(|table| {
                table.iter().copied().chain(std::iter::repeat(1 << 20)).take(max_blocks)
            })
            .collect();
        let partial = DECODE_QUERIES * (head_dim + 2);
        let mut partials = Aligned::new(&vec![f32::NAN; plan.partials as usize * partial]);
        // SAFETY: the arrays have the lengths passed to the launcher or required by the plan.
        let status = unsafe {
            colm_chain_attention(
                T::DTYPE,
                head_dim as i32,
                heads.as_ptr(),
                tensors.as_ptr(),
                chains.len() as i32,
                &self.cache.blocks(),
                tables.as_ptr(),
                max_blocks as i32,
                items.as_ptr(),
                &plan,
                partials.as_mut_ptr(),
                scale,
                std::ptr::null_mut(),
            )
        };
        match status {
            0 => Ok(outs.iter().map(|out| out.as_slice().to_vec()).collect()),
            status => Err(status),
        }
    }

    /// Compares with the formula, head by head. The result must be the same in both orders of the
    /// threads.
    pub fn check(&mut self, chains: &[Chain<T>], scale: f32) {
        let [outs, descending] = Order::ALL.map(|order| {
            order.set();
            self.attend(chains, scale)
        });
        for (out, descending) in outs.iter().zip(&descending) {
            assert!(out.iter().zip(descending).all(|(a, b)| a.bits() == b.bits()));
        }
        let head_dim = self.cache.shape.head_dim;
        for (index, (chain, out)) in chains.iter().zip(&outs).enumerate() {
            let expected = self.expected(chain, f64::from(scale));
            for (at, (out, expected)) in
                out.chunks(head_dim).zip(expected.chunks(head_dim)).enumerate()
            {
                let error =
                    norm(out.iter().zip(expected).map(|(out, expected)| out.wide() - expected));
                let size = norm(expected.iter().copied());
                assert!(
                    error <= T::TOLERANCE * size,
                    "chain {index}, row {}, head {}: error {error} of {size}",
                    at / chain.heads.heads as usize,
                    at % chain.heads.heads as usize,
                );
            }
        }
    }

    fn expected(&self, chain: &Chain<T>, scale: f64) -> Vec<f64> {
        let Shape { head_dim, .. } = self.cache.shape;
        let ChainHeads { heads, first_kv_head, kv_heads } = chain.heads;
        let rows = chain.ranges.iter().flat_map(|&(sequence, first, rows)| {
            (first..first + rows).map(move |position| (sequence, position))
        });
        let mut out = Vec::new();
        for (row, (sequence, position)) in rows.enumerate() {
            for head in 0..heads as usize {
                let kv_head = first_kv_head as usize + head * kv_heads as usize / heads as usize;
                let q = &chain.q.as_slice()[row * chain.q_stride + head * head_dim..][..head_dim];
                out.extend(self.formula(sequence, position, kv_head, q, scale));
            }
        }
        out
    }

    fn formula(
        &self,
        sequence: usize,
        position: usize,
        kv_head: usize,
        q: &[T],
        scale: f64,
    ) -> Vec<f64> {
        let head_dim = q.len();
        let (keys, values) = &self.sequences[sequence];
        let start = |at: usize| (at * self.cache.shape.kv_heads + kv_head) * head_dim;
        let score = |at: usize| -> f64 {
            let key = &keys[start(at)..][..head_dim];
            scale * q.iter().zip(key).map(|(q, k)| q.wide() * k.wide()).sum::<f64>()
        };
        let scores: Vec<f64> = (0..=position).map(score).collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        (0..head_dim)
            .map(|column| {
                let weighted = |at: usize| weights[at] * values[start(at) + column].wide();
                (0..=position).map(weighted).sum::<f64>() / sum
            })
            .collect()
    }
}

/// The items of a step and their counts.
pub fn plan<T>(chains: &[Chain<T>]) -> Result<(Vec<AttentionItem>, AttentionPlan), i32> {
    let heads: Vec<_> = chains.iter().map(|chain| chain.heads).collect();
    let ranges: Vec<_> =
        chains.iter().enumerate().flat_map(|(i, chain)| query_ranges(i, chain)).collect();
    let mut items = Vec::new();
    let mut plan = AttentionPlan::default();
    // Once for the counts, once for the items.
    for _ in 0..2 {
        items
            .resize((plan.prefill + plan.decode + plan.combine) as usize, AttentionItem::default());
        // SAFETY: the arrays have the lengths passed to the launcher.
        let status = unsafe {
            colm_attention_plan(
                heads.as_ptr(),
                heads.len() as i32,
                ranges.as_ptr(),
                ranges.len() as i32,
                items.as_mut_ptr(),
                items.len() as i32,
                &mut plan,
            )
        };
        if status != 0 {
            return Err(status);
        }
    }
    Ok((items, plan))
}

fn query_ranges<T>(index: usize, chain: &Chain<T>) -> Vec<QueryRange> {
    let mut first_row = 0;
    let range = |&(sequence, first, rows): &(usize, usize, usize)| {
        let range = QueryRange {
            chain: index as i32,
            sequence: sequence as i32,
            first_position: first as i32,
            rows: rows as i32,
            first_row,
        };
        first_row += rows as i32;
        range
    };
    chain.ranges.iter().map(range).collect()
}

fn norm(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.map(|x| x * x).sum::<f64>().sqrt()
}
