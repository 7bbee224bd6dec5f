//! Steps over a paged KV cache: RoPE, writes, attention.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};
use colm_kernels::{chain_attention, BlockTables, ChainQueries, KvBlocks, QueryRange, Rope, Slots};

use super::{assert_close, device, in_f32, on_device, random, DTYPES};

/// Query heads of the two chains.
const HEADS: [usize; 2] = [4, 2];
const POSITIONS: usize = 400;

struct Shape {
    kv_heads: usize,
    head_dim: usize,
    block_size: usize,
    dtype: DType,
}

/// A prompt and a continued prefix, then a step of one token per sequence. In CoLM-Air both chains read the same heads,
/// in CoLM each its own.
#[test]
fn prompts_and_decoding() -> Result<()> {
    for (kv_heads, reads) in [(2, [0..2, 0..2]), (3, [0..2, 2..3])] {
        for (head_dim, block_size) in [(32, 16), (64, 32), (128, 64), (64, 48)] {
            for dtype in DTYPES {
                let shape = Shape { kv_heads, head_dim, block_size, dtype };
                let caches = Caches::new(shape)?;
                caches.step(&[(0, 300), (0, 20)], &reads)?;
                caches.step(&[(300, 1), (20, 37)], &reads)?;
                caches.step(&[(301, 1), (57, 1)], &reads)?;
            }
        }
    }
    Ok(())
}

/// The same sequences in a cache of each side.
struct Caches {
    shape: Shape,
    gpu: KvBlocks,
    cpu: KvBlocks,
    rope: Rope,
}

impl Caches {
    fn new(shape: Shape) -> Result<Self> {
        Ok(Self {
            gpu: cache(&shape, shape.dtype, 8, device())?,
            cpu: cache(&shape, DType::F32, 4, &Device::Cpu)?,
            rope: Rope::new(shape.head_dim, 1e4, POSITIONS, None)?,
            shape,
        })
    }

    /// The blocks of the two sequences, in turns and from the last to the first.
    fn tables(&self) -> [Vec<u32>; 2] {
        let blocks = POSITIONS.div_ceil(self.shape.block_size) as u32;
        [0, 1].map(|sequence| (0..blocks).rev().map(|block| 2 * block + sequence).collect())
    }

    /// `sequences`: the first new position and the number of new rows of each. Chain 1 has all of them, chain 2 the
    /// last of each sequence.
    fn step(&self, sequences: &[(usize, usize); 2], reads: &[Range<usize>; 2]) -> Result<()> {
        self.write(sequences)?;
        let range = |sequence, first_position, rows| QueryRange { sequence, first_position, rows };
        let all = [0, 1].map(|s| range(s, sequences[s].0, sequences[s].1));
        let last = [0, 1].map(|s| range(s, sequences[s].0 + sequences[s].1 - 1, 1));
        let ranges = [all, last];
        let q = ranges.iter().zip(HEADS).map(|(ranges, heads)| {
            let rows = ranges.iter().map(|range| range.rows).sum();
            random(&[rows, heads, self.shape.head_dim], self.shape.dtype)
        });
        let q = q.collect::<Result<Vec<_>>>()?;
        let tables = BlockTables::new(self.tables().to_vec());
        let attend = |kv: &KvBlocks, q: &[Tensor]| {
            let chains = [0, 1].map(|i| ChainQueries {
                q: &q[i],
                ranges: &ranges[i],
                kv_heads: reads[i].clone(),
            });
            chain_attention(&chains, kv, &tables, (self.shape.head_dim as f32).sqrt().recip())
        };
        let found = attend(&self.gpu, &on_device(&q)?)?;
        let expected = attend(&self.cpu, &in_f32(&q)?)?;
        for (chain, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let Shape { head_dim, block_size, .. } = self.shape;
            let what = format!("chain {}, head_dim {head_dim}, blocks of {block_size}", chain + 1);
            assert_close(found, expected, &what)?;
        }
        Ok(())
    }

    /// Writes new keys and values of all sequences, and a padding row, to both caches.
    fn write(&self, sequences: &[(usize, usize); 2]) -> Result<()> {
        let (block_size, tables) = (self.shape.block_size, self.tables());
        let new = sequences.iter().zip(&tables).flat_map(|(&(first, rows), table)| {
            (first..first + rows).map(move |position| {
                let block = i64::from(table[position / block_size]);
                (position, block * block_size as i64 + (position % block_size) as i64)
            })
        });
        let (positions, slots): (Vec<_>, Vec<_>) = new.chain([(0, -1)]).unzip();
        let heads = 0..self.shape.kv_heads;
        let shape = [slots.len(), heads.end, self.shape.head_dim];
        let rows = [random(&shape, self.shape.dtype)?, random(&shape, self.shape.dtype)?];
        let slots = Slots::new(slots);
        let write = |kv: &KvBlocks, rows: &[Tensor]| {
            kv.write_with_rope(heads.clone(), &rows[0], &rows[1], &slots, &self.rope, &positions)
        };
        write(&self.gpu, &on_device(&rows)?)?;
        write(&self.cpu, &in_f32(&rows)?)
    }
}

/// A cache in the host's shapes.
fn cache(shape: &Shape, dtype: DType, x: usize, device: &Device) -> Result<KvBlocks> {
    let &Shape { kv_heads, head_dim, block_size, .. } = shape;
    let blocks = 2 * POSITIONS.div_ceil(block_size);
    let zeros = |dims: &[usize]| Tensor::zeros(dims, dtype, device);
    let keys = zeros(&[blocks, kv_heads, head_dim / x, block_size, x])?;
    KvBlocks::from_tensors(&keys, &zeros(&[blocks, kv_heads, head_dim, block_size])?, head_dim)
}
