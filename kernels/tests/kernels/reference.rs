//! The formula of attention in f64: no tiles, no online softmax, no paging.

use candle_core::{DType, Device, Result, Tensor};
use colm_kernels::{BlockTables, ChainQueries, KvBlocks, QueryRange, Slots};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Sequences with keys and values in a paged KV cache, and the same in plain vectors.
pub struct Step {
    pub kv: KvBlocks,
    pub tables: BlockTables,
    pub sequences: Vec<Sequence>,
    pub rng: StdRng,
}

/// `[positions, kv_heads, head_dim]`, rounded to the dtype of the cache.
pub struct Sequence {
    keys: Vec<f32>,
    values: Vec<f32>,
}

pub struct Shape {
    pub kv_heads: usize,
    pub head_dim: usize,
    pub block_size: usize,
    pub dtype: DType,
}

impl Step {
    /// Sequences with random keys and values, in KV blocks in random order. The cache is NaN where nothing was written,
    /// so that reading there is detected.
    pub fn new(seed: u64, lengths: &[usize], shape: Shape) -> Result<Self> {
        let Shape { kv_heads, head_dim, block_size, dtype } = shape;
        let mut rng = StdRng::seed_from_u64(seed);
        let needed: usize = lengths.iter().map(|length| length.div_ceil(block_size)).sum();
        let mut free: Vec<u32> = (0..needed as u32 + 3).collect();
        // A generator of its own: the numbers do not depend on the order of the blocks.
        free.shuffle(&mut StdRng::seed_from_u64(needed as u64));
        let kv = empty_cache(free.len(), &Shape { dtype, ..shape })?;
        let mut tables = Vec::new();
        let mut sequences = Vec::new();
        for &length in lengths {
            let table = free.split_off(free.len() - length.div_ceil(block_size));
            let slots = (0..length).map(|at| {
                i64::from(table[at / block_size]) * block_size as i64 + (at % block_size) as i64
            });
            let mut rows = || random(&mut rng, (length, kv_heads, head_dim), dtype);
            let (keys, values) = (rows()?, rows()?);
            kv.write(0..kv_heads, &keys, &values, &Slots::new(slots.collect()))?;
            sequences.push(Sequence { keys: numbers(&keys)?, values: numbers(&values)? });
            tables.push(table);
        }
        Ok(Self { kv, tables: BlockTables::new(tables), sequences, rng })
    }

    /// Random queries for the rows of `ranges`.
    pub fn queries(&mut self, ranges: &[QueryRange], heads: usize, dtype: DType) -> Result<Tensor> {
        let rows: usize = ranges.iter().map(|range| range.rows).sum();
        random(&mut self.rng, (rows, heads, self.kv.head_dim()), dtype)
    }

    /// The formula for one chain: `[active rows, heads_i, head_dim]`.
    pub fn expected(&self, chain: &ChainQueries, scale: f64) -> Result<Vec<f64>> {
        let (_, heads, head_dim) = chain.q.dims3()?;
        let q = numbers(chain.q)?;
        let rows = chain.ranges.iter().flat_map(|range| {
            (0..range.rows).map(|row| (range.sequence, range.first_position + row))
        });
        let mut out = Vec::new();
        for (row, (sequence, position)) in rows.enumerate() {
            for head in 0..heads {
                let kv_head = chain.kv_heads.start + head * chain.kv_heads.len() / heads;
                let q = &q[(row * heads + head) * head_dim..][..head_dim];
                out.extend(self.attend(sequence, position, kv_head, q, scale));
            }
        }
        Ok(out)
    }

    fn attend(
        &self,
        sequence: usize,
        position: usize,
        kv_head: usize,
        q: &[f32],
        scale: f64,
    ) -> Vec<f64> {
        let head_dim = q.len();
        let Sequence { keys, values } = &self.sequences[sequence];
        let start = |at: usize| (at * self.kv.kv_head_count() + kv_head) * head_dim;
        let scores: Vec<f64> = (0..=position)
            .map(|at| &keys[start(at)..][..head_dim])
            .map(|key| q.iter().zip(key).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>())
            .map(|product| product * scale)
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        (0..head_dim)
            .map(|column| {
                let weighted = |at: usize| weights[at] * f64::from(values[start(at) + column]);
                (0..=position).map(weighted).sum::<f64>() / sum
            })
            .collect()
    }
}

/// A cache in the host's shapes, filled with NaN.
pub fn empty_cache(blocks: usize, shape: &Shape) -> Result<KvBlocks> {
    let &Shape { kv_heads, head_dim, block_size, dtype } = shape;
    let x = 4;
    let nan = |dims: &[usize]| Tensor::full(f32::NAN, dims, &Device::Cpu)?.to_dtype(dtype);
    let keys = nan(&[blocks, kv_heads, head_dim / x, block_size, x])?;
    let values = nan(&[blocks, kv_heads, head_dim, block_size])?;
    KvBlocks::from_tensors(&keys, &values, head_dim)
}

/// Numbers of mean 0 and variance 1, rounded to `dtype`.
pub fn random(rng: &mut StdRng, dims: (usize, usize, usize), dtype: DType) -> Result<Tensor> {
    let bound = 3f32.sqrt();
    let count = dims.0 * dims.1 * dims.2;
    let numbers: Vec<f32> = (0..count).map(|_| rng.random_range(-bound..bound)).collect();
    Tensor::from_vec(numbers, dims, &Device::Cpu)?.to_dtype(dtype)
}

pub fn numbers(x: &Tensor) -> Result<Vec<f32>> {
    x.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}
