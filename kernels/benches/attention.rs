//! The speed of chain attention, in FLOP/s (masked keys do not count) and in bytes of the cache per second.
//!
//! `cargo bench -p colm-kernels --bench attention`; `RAYON_NUM_THREADS=1` for one core.

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use colm_kernels::{chain_attention, BlockTables, ChainQueries, KvBlocks, QueryRange, Slots};

const BLOCK_SIZE: usize = 32;
const KV_HEADS: usize = 4;
const HEAD_DIM: usize = 64;

fn main() -> Result<()> {
    println!("{} threads, {KV_HEADS} kv heads of {HEAD_DIM}", rayon::current_num_threads());
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for heads in [4, 16] {
            for positions in [512, 2048] {
                let prompt = QueryRange { sequence: 0, first_position: 0, rows: positions };
                report("prefill", prompt, heads, dtype)?;
            }
            for positions in [512, 1024, 4096] {
                let row = QueryRange { sequence: 0, first_position: positions - 1, rows: 1 };
                report("decode", row, heads, dtype)?;
            }
        }
    }
    Ok(())
}

fn report(what: &str, range: QueryRange, heads: usize, dtype: DType) -> Result<()> {
    let seconds = seconds_per_call(range, heads, dtype)?;
    let seen: usize = (0..range.rows).map(|row| range.first_position + row + 1).sum();
    let flops = (4 * seen * heads * HEAD_DIM) as f64;
    let bytes = 2 * range.visible() * KV_HEADS * HEAD_DIM * dtype.size_in_bytes();
    println!(
        "{what:8} {dtype:?} {heads:3} heads, {:5} positions: {:9.3} ms, {:6.1} GFLOP/s, {:6.2} GB/s of the cache",
        range.visible(),
        seconds * 1e3,
        flops / seconds * 1e-9,
        bytes as f64 / seconds * 1e-9
    );
    Ok(())
}

/// The fastest of several calls.
fn seconds_per_call(range: QueryRange, heads: usize, dtype: DType) -> Result<f64> {
    let positions = range.visible();
    let blocks = positions.div_ceil(BLOCK_SIZE);
    // Several layers in turn, as in a model. Together they exceed the cache of the processor.
    let bytes = 2 * blocks * BLOCK_SIZE * KV_HEADS * HEAD_DIM * dtype.size_in_bytes();
    let layers = (128 << 20) / bytes.max(4 << 20);
    let layers = (0..layers).map(|_| layer(positions, dtype)).collect::<Result<Vec<_>>>()?;
    let tables = BlockTables::new(vec![(0..blocks as u32).rev().collect()]);
    let q = Tensor::randn(0f32, 1f32, (range.rows, heads, HEAD_DIM), &Device::Cpu)?;
    let chain = ChainQueries { q: &q, ranges: &[range], kv_heads: 0..KV_HEADS };
    let mut fastest = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        let attend = |kv| chain_attention(std::slice::from_ref(&chain), kv, &tables, 0.125);
        layers.iter().try_for_each(|kv| attend(kv).map(drop))?;
        fastest = fastest.min(start.elapsed().as_secs_f64() / layers.len() as f64);
    }
    Ok(fastest)
}

/// The KV cache of one layer.
fn layer(positions: usize, dtype: DType) -> Result<KvBlocks> {
    let (cpu, blocks) = (&Device::Cpu, positions.div_ceil(BLOCK_SIZE));
    let x = 16 / dtype.size_in_bytes();
    let keys = Tensor::zeros((blocks, KV_HEADS, HEAD_DIM / x, BLOCK_SIZE, x), dtype, cpu)?;
    let values = Tensor::zeros((blocks, KV_HEADS, HEAD_DIM, BLOCK_SIZE), dtype, cpu)?;
    let kv = KvBlocks::from_tensors(&keys, &values, HEAD_DIM)?;
    let new = Tensor::randn(0f32, 1f32, (positions, KV_HEADS, HEAD_DIM), cpu)?;
    kv.write(0..KV_HEADS, &new, &new, &Slots::new((0..positions as i64).collect()))?;
    Ok(kv)
}
