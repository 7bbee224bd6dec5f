use std::ops::Range;

use candle_core::{DType, Result, Tensor};
use colm_cuda::{AttentionPlan, ChainHeads, KvRows, RopeChain, RopeTable};
use colm_kernels::{BlockTables, ChainQueries, KvBlocks, QueryRange, Rope, Slots};

use super::{assert_close, assert_error, random, CPU};

pub(super) const HEAD_DIM: usize = 64;
const BLOCK_SIZE: usize = 16;
const BLOCKS: usize = 12;
/// Query heads of the two chains.
const HEADS: [usize; 2] = [4, 2];
/// The KV blocks of the two sequences.
const TABLES: [[u32; 3]; 2] = [[7, 2, 9], [4, 11, 0]];
/// The first new position of each sequence, and the number of new rows. The second continues a cached prefix.
const SEQUENCES: [(usize, usize); 2] = [(0, 37), (20, 5)];
const SCALE: f32 = 0.125;

/// A step of two sequences: chain 1 on all new rows, chain 2 on the last of each sequence. In CoLM-Air both chains read
/// the same heads, in CoLM each its own.
#[test]
fn a_step_writes_the_cache_and_attends_over_it() -> Result<()> {
    for (kv_heads, reads) in [(2, [0..2, 0..2]), (3, [0..2, 2..3])] {
        for dtype in [DType::BF16, DType::F16] {
            let caches = Caches::new(dtype, kv_heads)?;
            write(&caches, dtype)?;
            attend(&caches, dtype, &reads)?;
        }
    }
    Ok(())
}

/// A cache for either side, because the order of the numbers within a block is each side's own.
struct Caches {
    kv_heads: usize,
    gpu_keys: Tensor,
    gpu_values: Tensor,
    cpu: KvBlocks,
}

impl Caches {
    fn new(dtype: DType, kv_heads: usize) -> Result<Self> {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, dtype, &CPU);
        let gpu_shape = [BLOCKS, kv_heads, BLOCK_SIZE, HEAD_DIM];
        let keys = zeros(&[BLOCKS, kv_heads, HEAD_DIM / 8, BLOCK_SIZE, 8])?;
        let values = zeros(&[BLOCKS, kv_heads, HEAD_DIM, BLOCK_SIZE])?;
        Ok(Self {
            kv_heads,
            gpu_keys: zeros(&gpu_shape)?,
            gpu_values: zeros(&gpu_shape)?,
            cpu: KvBlocks::from_tensors(&keys, &values, HEAD_DIM)?,
        })
    }

    fn gpu(&self) -> colm_cuda::KvBlocks<'_> {
        colm_cuda::KvBlocks {
            keys: &self.gpu_keys,
            values: &self.gpu_values,
            kv_heads: self.kv_heads,
            block_size: BLOCK_SIZE,
            head_dim: HEAD_DIM,
        }
    }
}

/// The positions and slots of the prefix of the second sequence and of the new rows of both. One row is padding.
fn rows_to_write() -> (Vec<usize>, Vec<i64>) {
    let prefix = (0..SEQUENCES[1].0).map(|position| (1, position));
    let new = SEQUENCES.into_iter().enumerate().flat_map(|(sequence, (first, rows))| {
        (first..first + rows).map(move |position| (sequence, position))
    });
    let slot = |(sequence, position): (usize, usize)| {
        let block = TABLES[sequence][position / BLOCK_SIZE];
        (position, i64::from(block) * BLOCK_SIZE as i64 + (position % BLOCK_SIZE) as i64)
    };
    prefix.chain(new).map(slot).chain([(0, -1)]).unzip()
}

/// Writes the same keys, rotated, and values to both caches.
fn write(caches: &Caches, dtype: DType) -> Result<()> {
    let (positions, slots) = rows_to_write();
    let shape = [slots.len(), caches.kv_heads, HEAD_DIM];
    let (keys, values) = (random(&shape, dtype)?, random(&shape, dtype)?);
    let rotated = Rope::new(HEAD_DIM, 10_000., 64, None)?.apply(&keys, &positions)?;
    caches.cpu.write(0..caches.kv_heads, &rotated, &values, &Slots::new(slots.clone()))?;

    let table = rope_table()?;
    let positions: Vec<u32> = positions.iter().map(|&position| position as u32).collect();
    let (positions, slots) = (Tensor::new(positions, &CPU)?, Tensor::new(slots, &CPU)?);
    let found = colm_cuda::rope(&keys, &positions, &table)?;
    assert_close(&found, &rotated, "rope")?;
    colm_cuda::kv_write(&caches.gpu(), 0, (&found, &values), &slots, None)?;
    let numbers_of = |keys: &Tensor| keys.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let written = numbers_of(&caches.gpu_keys)?;
    // RoPE and the write in one launch: the same bits at the same slots.
    for tensor in [&caches.gpu_keys, &caches.gpu_values] {
        tensor.zero_set()?;
    }
    let rotation = Some((&table, &positions));
    colm_cuda::kv_write(&caches.gpu(), 0, (&keys, &values), &slots, rotation)?;
    assert_eq!(numbers_of(&caches.gpu_keys)?, written);
    // With the queries of two chains as well.
    let values_written = numbers_of(&caches.gpu_values)?;
    for tensor in [&caches.gpu_keys, &caches.gpu_values] {
        tensor.zero_set()?;
    }
    let new = KvRows { keys: &keys, values: &values, slots: &slots, first_head: 0 };
    let q = random(&[slots.dim(0)?, HEADS[0], HEAD_DIM], dtype)?;
    let later = random(&[2, HEADS[1], HEAD_DIM], dtype)?;
    let later_positions = positions.narrow(0, 20, 2)?.contiguous()?;
    let chains = [
        RopeChain { q: &q, positions: &positions, new: Some(new) },
        RopeChain { q: &later, positions: &later_positions, new: None },
    ];
    let found = colm_cuda::rope_and_write(&chains, &table, &caches.gpu())?;
    for (chain, found) in chains.iter().zip(&found) {
        let expected = colm_cuda::rope(chain.q, chain.positions, &table)?;
        assert_eq!(found.dims(), expected.dims());
        assert_eq!(numbers_of(found)?, numbers_of(&expected)?);
    }
    assert_eq!(numbers_of(&caches.gpu_keys)?, written);
    assert_eq!(numbers_of(&caches.gpu_values)?, values_written);
    let misplaced = [RopeChain { positions: &later_positions, ..chains[0] }];
    assert_error(colm_cuda::rope_and_write(&misplaced, &table, &caches.gpu()), "positions must be");
    Ok(())
}

/// Compares the attention of both sides. Chain i reads the key/value heads `reads[i]`.
fn attend(caches: &Caches, dtype: DType, reads: &[Range<usize>; 2]) -> Result<()> {
    let range = |sequence, first_position, rows| QueryRange { sequence, first_position, rows };
    let [(first_0, rows_0), (first_1, rows_1)] = SEQUENCES;
    let ranges = [
        [range(0, first_0, rows_0), range(1, first_1, rows_1)],
        [range(0, first_0 + rows_0 - 1, 1), range(1, first_1 + rows_1 - 1, 1)],
    ];
    let q = ranges.iter().zip(HEADS).map(|(ranges, heads)| {
        let rows = ranges.iter().map(|range| range.rows).sum();
        random(&[rows, heads, HEAD_DIM], dtype)
    });
    let q = q.collect::<Result<Vec<_>>>()?;
    let chain = |i: usize| {
        let kv_heads = reads[i].clone();
        ChainQueries { q: &q[i], ranges: &ranges[i], kv_heads }
    };
    let tables = BlockTables::new(TABLES.map(Vec::from).to_vec());
    let expected =
        colm_kernels::chain_attention(&[chain(0), chain(1)], &caches.cpu, &tables, SCALE)?;

    let plan = plan(&ranges, reads)?;
    let attend = |tables: &Tensor| {
        colm_cuda::chain_attention(&plan, &[&q[0], &q[1]], &caches.gpu(), tables, SCALE)
    };
    let tables = Tensor::new(&TABLES, &CPU)?;
    for (chain, (found, expected)) in attend(&tables)?.iter().zip(&expected).enumerate() {
        let what = format!("attention, chain {} of {} heads", chain + 1, caches.kv_heads);
        assert_close(found, expected, &what)?;
    }
    assert_error(attend(&tables.narrow(1, 0, 1)?.contiguous()?), "block tables");
    Ok(())
}

fn plan(ranges: &[[QueryRange; 2]; 2], reads: &[Range<usize>; 2]) -> Result<AttentionPlan> {
    let heads = [0, 1].map(|i| ChainHeads {
        heads: HEADS[i] as i32,
        first_kv_head: reads[i].start as i32,
        kv_heads: reads[i].len() as i32,
    });
    let mut gpu_ranges = Vec::new();
    for (chain, ranges) in ranges.iter().enumerate() {
        let mut first_row = 0;
        for range in ranges {
            gpu_ranges.push(colm_cuda::QueryRange {
                chain: chain as i32,
                sequence: range.sequence as i32,
                first_position: range.first_position as i32,
                rows: range.rows as i32,
                first_row,
            });
            first_row += range.rows as i32;
        }
    }
    AttentionPlan::new(&heads, &gpu_ranges, &CPU)
}

/// The table of RoPE (`docs/spec.md#layers`) for theta 10000, computed independently.
pub(super) fn rope_table() -> Result<RopeTable> {
    let angle = |position: usize, pair: usize| {
        position as f64 * 10_000f64.powf(-2. * pair as f64 / HEAD_DIM as f64)
    };
    let table = |of: fn(f64) -> f64| {
        let numbers =
            (0..64).flat_map(|at| (0..HEAD_DIM / 2).map(move |pair| of(angle(at, pair)) as f32));
        Tensor::from_vec(numbers.collect::<Vec<_>>(), (64, HEAD_DIM / 2), &CPU)
    };
    Ok(RopeTable { cos: table(f64::cos)?, sin: table(f64::sin)? })
}
