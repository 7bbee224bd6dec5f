//! The bits of a row's attention do not depend on the other rows of the step. This makes a greedy answer the same alone
//! and in a batch.

use crate::reference::{numbers, Shape, Step};
use candle_core::{DType, Result, Tensor};
use colm_kernels::{chain_attention, with_threads, ChainQueries, QueryRange};

/// Longer than a split, and not a multiple of any tile.
const LENGTHS: [usize; 3] = [1301, 77, 530];
const HEADS: usize = 3;
const HEAD_DIM: usize = 24;

fn step(kv_heads: usize) -> Result<Step> {
    step_in_blocks(kv_heads, 16)
}

fn step_in_blocks(kv_heads: usize, block_size: usize) -> Result<Step> {
    Step::new(11, &LENGTHS, Shape { kv_heads, head_dim: HEAD_DIM, block_size, dtype: DType::F32 })
}

fn all_rows(sequence: usize) -> QueryRange {
    QueryRange { sequence, first_position: 0, rows: LENGTHS[sequence] }
}

fn attend(step: &Step, q: &Tensor, ranges: &[QueryRange]) -> Result<Vec<u32>> {
    let kv_heads = 0..step.kv.kv_head_count();
    let chain = ChainQueries { q, ranges, kv_heads };
    let out = chain_attention(&[chain], &step.kv, &step.tables, 0.2)?;
    Ok(numbers(&out[0])?.into_iter().map(f32::to_bits).collect())
}

#[test]
fn alone_and_in_a_batch() -> Result<()> {
    for kv_heads in [1, 3] {
        let mut step = step(kv_heads)?;
        let ranges = [all_rows(0), all_rows(1), all_rows(2)];
        let q = step.queries(&ranges, HEADS, DType::F32)?;
        let together = attend(&step, &q, &ranges)?;
        let mut alone = Vec::new();
        for range in ranges {
            let before = alone.len() / (HEADS * HEAD_DIM);
            alone.extend(attend(&step, &q.narrow(0, before, range.rows)?, &[range])?);
        }
        assert!(together == alone);
    }
    Ok(())
}

/// A prompt in one piece, in chunks of several sizes, and row by row as in decoding.
#[test]
fn in_chunks_of_any_size() -> Result<()> {
    for kv_heads in [1, 3] {
        let mut step = step(kv_heads)?;
        let q = step.queries(&[all_rows(0)], HEADS, DType::F32)?;
        let at_once = attend(&step, &q, &[all_rows(0)])?;
        for chunk in [1, 7, 256, 1000] {
            let mut pieces = Vec::new();
            for first_position in (0..LENGTHS[0]).step_by(chunk) {
                let rows = chunk.min(LENGTHS[0] - first_position);
                let range = QueryRange { sequence: 0, first_position, rows };
                pieces.extend(attend(&step, &q.narrow(0, first_position, rows)?, &[range])?);
            }
            assert!(at_once == pieces, "chunks of {chunk}");
        }
    }
    Ok(())
}

#[test]
fn on_any_number_of_threads() -> Result<()> {
    let mut step = step(1)?;
    let q = step.queries(&[all_rows(0)], HEADS, DType::F32)?;
    let on = |threads| with_threads(threads, || attend(&step, &q, &[all_rows(0)]));
    let one = on(1)?;
    for threads in [2, 5] {
        assert!(one == on(threads)?, "{threads} threads");
    }
    Ok(())
}

/// The same keys and values in KV blocks of another size and order.
#[test]
fn in_any_blocks() -> Result<()> {
    let in_blocks_of = |block_size| {
        let mut step = step_in_blocks(1, block_size)?;
        let q = step.queries(&[all_rows(0)], HEADS, DType::F32)?;
        attend(&step, &q, &[all_rows(0)])
    };
    assert!(in_blocks_of(8)? == in_blocks_of(32)?);
    Ok(())
}

/// Chains that read the same heads on the same rows share a query tile.
#[test]
fn with_chains_of_several_widths_beside_it() -> Result<()> {
    for kv_heads in [1, 3] {
        let mut step = step(kv_heads)?;
        let ranges =
            [0, 2].map(|sequence| QueryRange { sequence, first_position: LENGTHS[1], rows: 9 });
        let queries =
            [HEADS, 2 * HEADS, HEADS].map(|heads| step.queries(&ranges, heads, DType::F32));
        let queries = queries.into_iter().collect::<Result<Vec<_>>>()?;
        let chains: Vec<_> = queries
            .iter()
            .map(|q| ChainQueries { q, ranges: &ranges, kv_heads: 0..kv_heads })
            .collect();
        let together = chain_attention(&chains, &step.kv, &step.tables, 0.2)?;
        for (q, together) in queries.iter().zip(together) {
            assert_eq!(together.dims(), q.dims());
            let together: Vec<u32> = numbers(&together)?.into_iter().map(f32::to_bits).collect();
            assert!(together == attend(&step, q, &ranges)?);
        }
    }
    Ok(())
}
