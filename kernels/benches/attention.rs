//! How fast chain attention is, in multiply-adds a row sees (masked work does not count).
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
            for positions in [512, 1024, 2048] {
                let prompt = QueryRange { sequence: 0, first_position: 0, rows: positions };
                report("prefill", prompt, heads, dtype)?;
            }
            for positions in [512, 2048, 8192] {
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
    println!(
        "{what:8} {dtype:?} {heads:3} heads, {:5} positions: {:9.3} ms, {:6.1} GFLOP/s",
        range.visible(),
        seconds * 1e3,
        flops / seconds * 1e-9
    );
    Ok(())
}

/// The fastest of several calls.
fn seconds_per_call(range: QueryRange, heads: usize, dtype: DType) -> Result<f64> {
    let cpu = &Device::Cpu;
    let positions = range.visible();
    let blocks = positions.div_ceil(BLOCK_SIZE);
    let x = 16 / dtype.size_in_bytes();
    let keys = Tensor::zeros((blocks, KV_HEADS, HEAD_DIM / x, BLOCK_SIZE, x), dtype, cpu)?;
    let values = Tensor::zeros((blocks, KV_HEADS, HEAD_DIM, BLOCK_SIZE), dtype, cpu)?;
    let kv = KvBlocks::from_host(&keys, &values, HEAD_DIM)?;
    let new = || Tensor::randn(0f32, 1f32, (positions, KV_HEADS, HEAD_DIM), cpu);
    kv.write(0..KV_HEADS, &new()?, &new()?, &Slots::new((0..positions as i64).collect()))?;
    let tables = BlockTables::new(vec![(0..blocks as u32).collect()]);
    let q = Tensor::randn(0f32, 1f32, (range.rows, heads, HEAD_DIM), cpu)?.to_dtype(dtype)?;
    let chain = ChainQueries { q: &q, ranges: &[range], kv_heads: 0..KV_HEADS };
    let mut fastest = f64::INFINITY;
    for _ in 0..10 {
        let start = Instant::now();
        chain_attention(std::slice::from_ref(&chain), &kv, &tables, 0.125)?;
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    Ok(fastest)
}
