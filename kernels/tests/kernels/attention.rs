//! Chain attention against the formula in f64.

use crate::reference::{numbers, random, Shape, Step};
use candle_core::{DType, Device, Result, Tensor};
use colm_kernels::{chain_attention, BlockTables, ChainQueries, QueryRange, Slots};
use rand::rngs::StdRng;
use rand::SeedableRng;

const PLAIN: Shape = Shape { kv_heads: 2, head_dim: 16, block_size: 8, dtype: DType::F32 };

fn range(sequence: usize, first_position: usize, rows: usize) -> QueryRange {
    QueryRange { sequence, first_position, rows }
}

/// Compares with the formula. The tolerance is `relative`, for the rounding of the output, plus 1e-5 for that of the
/// sums.
fn check(step: &Step, chains: &[ChainQueries], scale: f32, relative: f64) -> Result<()> {
    let outs = chain_attention(chains, &step.kv, &step.tables, scale)?;
    assert_eq!(outs.len(), chains.len());
    for (index, (chain, out)) in chains.iter().zip(&outs).enumerate() {
        assert_eq!((out.dims(), out.dtype()), (chain.q.dims(), chain.q.dtype()));
        let expected = step.expected(chain, f64::from(scale))?;
        for (at, (&out, &expected)) in numbers(out)?.iter().zip(&expected).enumerate() {
            let error = (f64::from(out) - expected).abs();
            let allowed = 1e-5 + relative * expected.abs();
            assert!(
                error <= allowed,
                "chain {}, number {at}: {out}, expected {expected}",
                index + 1
            );
        }
    }
    Ok(())
}

#[test]
fn prompts_of_unequal_length() -> Result<()> {
    for (head_dim, block_size) in
        [(64, 32), (80, 16), (24, 8), (8, 5), (96, 64), (40, 48), (288, 32)]
    {
        let shape = Shape { head_dim, block_size, ..PLAIN };
        let mut step = Step::new(1, &[70, 1, 33, 131], shape)?;
        let ranges = [range(0, 0, 70), range(1, 0, 1), range(2, 0, 33), range(3, 0, 131)];
        let q = step.queries(&ranges, 6, DType::F32)?;
        let chain = ChainQueries { q: &q, ranges: &ranges, kv_heads: 0..2 };
        check(&step, &[chain], (head_dim as f32).sqrt().recip(), 0.0)?;
    }
    Ok(())
}

/// CoLM-Air's prefix-chain prefill: every chain reads the same heads, the later chains only for the last rows. One
/// sequence has several last rows.
#[test]
fn later_chains_on_the_last_rows_only() -> Result<()> {
    let mut step = Step::new(2, &[40, 90, 17], PLAIN)?;
    let all = [range(0, 0, 40), range(1, 30, 60), range(2, 0, 17)];
    let last = [range(0, 39, 1), range(1, 85, 5), range(2, 16, 1)];
    let q: Vec<_> = [(&all, 2), (&last, 2), (&last, 10)]
        .into_iter()
        .map(|(ranges, heads)| step.queries(ranges, heads, DType::F32))
        .collect::<Result<_>>()?;
    let chain = |i: usize, ranges| ChainQueries { q: &q[i], ranges, kv_heads: 0..2 };
    check(&step, &[chain(0, &all), chain(1, &last), chain(2, &last)], 0.25, 0.0)
}

/// CoLM: every chain reads its own heads. One chain has no rows.
#[test]
fn each_chain_has_its_own_heads() -> Result<()> {
    let mut step = Step::new(3, &[50, 20], Shape { kv_heads: 5, ..PLAIN })?;
    let (both, second) = ([range(0, 10, 40), range(1, 0, 20)], [range(1, 0, 20)]);
    let q = [
        step.queries(&both, 4, DType::F32)?,
        step.queries(&second, 3, DType::F32)?,
        step.queries(&[], 2, DType::F32)?,
    ];
    let chains = [
        ChainQueries { q: &q[0], ranges: &both, kv_heads: 0..2 },
        ChainQueries { q: &q[1], ranges: &second, kv_heads: 2..3 },
        ChainQueries { q: &q[2], ranges: &[], kv_heads: 3..5 },
    ];
    check(&step, &chains, 0.25, 0.0)
}

/// Query heads that are no multiple of the key/value heads, also fewer of them: one key/value head is not read.
#[test]
fn heads_in_unequal_groups() -> Result<()> {
    let mut step = Step::new(9, &[50, 1200], Shape { kv_heads: 8, ..PLAIN })?;
    let (all, last) = ([range(0, 0, 50), range(1, 1100, 100)], [range(1, 1199, 1)]);
    let q = [
        step.queries(&all, 5, DType::F32)?,
        step.queries(&all, 2, DType::F32)?,
        step.queries(&last, 7, DType::F32)?,
        step.queries(&last, 1, DType::F32)?,
    ];
    let chains = [
        ChainQueries { q: &q[0], ranges: &all, kv_heads: 0..3 },
        ChainQueries { q: &q[1], ranges: &all, kv_heads: 3..6 },
        ChainQueries { q: &q[2], ranges: &last, kv_heads: 4..8 },
        ChainQueries { q: &q[3], ranges: &last, kv_heads: 4..8 },
    ];
    check(&step, &chains, 0.25, 0.0)
}

#[test]
fn decoding_rows_of_long_and_short_contexts() -> Result<()> {
    let lengths = [2500, 1, 64, 1024, 1025];
    let mut step = Step::new(4, &lengths, PLAIN)?;
    let ranges: Vec<_> = (0..5).map(|s| range(s, lengths[s] - 1, 1)).collect();
    let q = step.queries(&ranges, 4, DType::F32)?;
    check(&step, &[ChainQueries { q: &q, ranges: &ranges, kv_heads: 0..2 }], 0.25, 0.0)
}

/// Scores in the hundreds, of both signs. The largest must not overflow, wherever it is; its weight is near 1. Scores
/// of this size have an error of 1e-4, and so do the results.
#[test]
fn sharp_softmax() -> Result<()> {
    let mut step = Step::new(5, &[1100], PLAIN)?;
    let ranges = [range(0, 1000, 100)];
    let q = step.queries(&ranges, 2, DType::F32)?;
    for scale in [20.0, -20.0] {
        let chain = ChainQueries { q: &q, ranges: &ranges, kv_heads: 0..2 };
        check(&step, &[chain], scale, 1e-3)?;
    }
    Ok(())
}

#[test]
fn half_precision() -> Result<()> {
    for (dtype, rounding) in [(DType::BF16, 1.0 / 256.0), (DType::F16, 1.0 / 2048.0)] {
        let mut step = Step::new(6, &[75, 40], Shape { dtype, ..PLAIN })?;
        let ranges = [range(0, 0, 75), range(1, 39, 1)];
        for (q_dtype, rounding) in [(dtype, rounding), (DType::F32, 0.0)] {
            let q = step.queries(&ranges, 4, q_dtype)?;
            let chain = ChainQueries { q: &q, ranges: &ranges, kv_heads: 0..2 };
            check(&step, &[chain], 0.25, rounding)?;
        }
    }
    Ok(())
}

/// A row depends on the positions that it sees alone, even if the values of later ones are not finite.
#[test]
fn later_values_that_are_not_finite_change_nothing() -> Result<()> {
    for (dtype, length, first, bad) in
        [(DType::F32, 40, 0, 30), (DType::BF16, 40, 0, 17), (DType::F16, 1100, 1015, 1026)]
    {
        let step = Step::new(10, &[length], Shape { dtype, ..PLAIN })?;
        let mut rng = StdRng::seed_from_u64(11);
        let q = random(&mut rng, (length - first, 6, PLAIN.head_dim), DType::F32)?;
        let ranges = [range(0, first, length - first)];
        let chains = [ChainQueries { q: &q, ranges: &ranges, kv_heads: 0..2 }];
        let attend = || numbers(&chain_attention(&chains, &step.kv, &step.tables, 0.25)?[0]);
        let before = attend()?;
        let block = step.tables.blocks(0).unwrap()[bad / PLAIN.block_size];
        let slot = block as usize * PLAIN.block_size + bad % PLAIN.block_size;
        let nan = Tensor::full(f32::NAN, (1, 2, PLAIN.head_dim), &Device::Cpu)?.to_dtype(dtype)?;
        step.kv.write(0..2, &nan, &nan, &Slots::new(vec![slot as i64]))?;
        let after = attend()?;
        let (same, changed) = after.split_at((bad - first) * 6 * PLAIN.head_dim);
        assert_eq!(same, &before[..same.len()], "{dtype:?}");
        assert!(changed.iter().all(|number| number.is_nan()), "{dtype:?}");
    }
    Ok(())
}

#[test]
fn queries_may_be_a_strided_view() -> Result<()> {
    let mut step = Step::new(7, &[20], PLAIN)?;
    let ranges = [range(0, 0, 20)];
    let wide = step.queries(&ranges, 9, DType::F32)?;
    let q = wide.narrow(1, 3, 4)?;
    check(&step, &[ChainQueries { q: &q, ranges: &ranges, kv_heads: 0..2 }], 0.25, 0.0)
}

#[test]
fn errors_name_the_sizes() -> Result<()> {
    let mut step = Step::new(8, &[20], PLAIN)?;
    let ranges = [range(0, 0, 20)];
    let q = step.queries(&ranges, 4, DType::F32)?;
    let other_dim = q.narrow(2, 0, 8)?;
    let no_heads = q.narrow(1, 0, 0)?;
    let blocks = step.tables.blocks(0).unwrap().to_vec();
    let short = BlockTables::new(vec![blocks[..2].to_vec()]);
    let unknown = BlockTables::new(vec![vec![blocks[0], 999, blocks[2]]]);
    let good = &step.tables;
    type Case<'a> =
        (&'a candle_core::Tensor, QueryRange, std::ops::Range<usize>, &'a BlockTables, &'a str);
    let cases: [Case; 9] = [
        (&other_dim, ranges[0], 0..2, good, "a head_dim of 8, the cache has 16"),
        (&no_heads, ranges[0], 0..2, good, "queries have 0 heads"),
        (&q, ranges[0], 1..3, good, "1..3 are not within the cache's 0..2"),
        (&q, ranges[0], 1..1, good, "1..1 are not within"),
        (&q, range(0, 0, 19), 0..2, good, "19 rows in total, the queries 20"),
        (&q, range(1, 0, 20), 0..2, good, "no block table for sequence 1"),
        (&q, range(0, 5, 20), 0..2, good, "up to position 24"),
        (&q, ranges[0], 0..2, &short, "needs 3 blocks of 8 positions, but its block table has 2"),
        (&q, ranges[0], 0..2, &unknown, "names block 999"),
    ];
    for (q, range, kv_heads, tables, reason) in cases {
        let chain = ChainQueries { q, ranges: &[range], kv_heads };
        let error = chain_attention(&[chain], &step.kv, tables, 0.25).unwrap_err().to_string();
        assert!(error.contains(reason) && error.starts_with("chain 1\n"), "{error}");
    }
    Ok(())
}
