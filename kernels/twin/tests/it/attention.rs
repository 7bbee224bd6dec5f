//! Chain attention against the formula in f64.

use colm_kernels_twin::{status_text, Aligned};
use half::{bf16, f16};

use crate::half_float::HalfFloat;
use crate::paged::{plan, Chain, Shape, Step};

pub const PLAIN: Shape = Shape { kv_heads: 2, head_dim: 64, block_size: 16 };

pub fn scale(shape: Shape) -> f32 {
    (shape.head_dim as f32).sqrt().recip()
}

/// Prompts of different lengths: one row, less than a tile, more than one tile. Some continue a prefix.
fn prompts<T: HalfFloat>(shape: Shape, heads: usize, lengths: &[(usize, usize)]) {
    let total: Vec<usize> = lengths.iter().map(|(prefix, rows)| prefix + rows).collect();
    let ranges: Vec<_> =
        lengths.iter().enumerate().map(|(s, &(prefix, rows))| (s, prefix, rows)).collect();
    let mut step = Step::<T>::new(1, &total, shape);
    let chain = step.chain(heads, 0, shape.kv_heads, &ranges);
    step.check(&[chain], scale(shape));
}

#[test]
fn prompts_of_unequal_length() {
    prompts::<bf16>(PLAIN, 2, &[(0, 70), (0, 1), (0, 64), (0, 131)]);
    prompts::<f16>(PLAIN, 4, &[(0, 70), (13, 57)]);
    prompts::<f16>(Shape { head_dim: 128, block_size: 32, ..PLAIN }, 2, &[(0, 129), (100, 65)]);
    prompts::<bf16>(Shape { head_dim: 128, ..PLAIN }, 6, &[(0, 100), (0, 3)]);
    prompts::<bf16>(Shape { head_dim: 32, ..PLAIN }, 4, &[(0, 70), (5, 1), (0, 64), (9, 131)]);
    prompts::<f16>(Shape { head_dim: 32, block_size: 48, ..PLAIN }, 2, &[(0, 129), (100, 65)]);
}

#[test]
fn every_block_size() {
    for block_size in [16, 32, 48, 64] {
        prompts::<f16>(Shape { block_size, ..PLAIN }, 2, &[(0, 80), (90, 66), (200, 2)]);
    }
}

#[test]
fn groups_of_heads_that_do_not_fill_a_tile() {
    for (heads, rows) in [(3, 50), (5, 30), (20, 10), (40, 3), (7, 1)] {
        prompts::<f16>(Shape { kv_heads: 1, ..PLAIN }, heads, &[(30, rows), (0, rows)]);
    }
}

/// CoLM-Air's prefix-chain prefill: all chains read the same heads, the later chains only for the last rows. One
/// sequence has several last rows.
#[test]
fn air_with_later_chains_on_the_last_rows_only() {
    fn air<T: HalfFloat>(shape: Shape) {
        let mut step = Step::<T>::new(2, &[40, 120, 17], shape);
        let all = [(0, 0, 40), (1, 30, 90), (2, 0, 17)];
        let last = [(0, 39, 1), (1, 115, 5), (2, 16, 1)];
        let chains =
            [(2, &all), (2, &last), (2, &last), (8, &last)].map(|(h, r)| step.chain(h, 0, 2, r));
        step.check(&chains, scale(shape));
    }
    air::<bf16>(PLAIN);
    air::<f16>(Shape { head_dim: 128, block_size: 32, ..PLAIN });
    air::<bf16>(Shape { head_dim: 32, block_size: 32, ..PLAIN });
}

/// CoLM: every chain reads its own heads. One chain has no rows.
#[test]
fn each_chain_has_its_own_heads() {
    let mut step = Step::<bf16>::new(3, &[75, 20], Shape { kv_heads: 5, ..PLAIN });
    let chains = [
        step.chain(4, 0, 2, &[(0, 10, 65), (1, 0, 20)]),
        step.chain(3, 2, 1, &[(1, 0, 20)]),
        step.chain(2, 3, 2, &[]),
        step.chain(2, 4, 1, &[(0, 0, 75), (1, 19, 1)]),
    ];
    step.check(&chains, scale(PLAIN));
}

#[test]
fn decoding_with_one_and_many_splits() {
    fn decode<T: HalfFloat>(shape: Shape, heads: usize) {
        let lengths = [1, 2, 64, 255, 256, 257, 300, 1500];
        let mut step = Step::<T>::new(4, &lengths, shape);
        let ranges: Vec<_> = lengths.iter().enumerate().map(|(s, n)| (s, n - 1, 1)).collect();
        let chain = step.chain(heads, 0, shape.kv_heads, &ranges);
        step.check(&[chain], scale(shape));
    }
    decode::<f16>(PLAIN, 8);
    decode::<bf16>(Shape { head_dim: 128, block_size: 32, ..PLAIN }, 2);
    decode::<f16>(Shape { head_dim: 128, kv_heads: 1, ..PLAIN }, 33);
    decode::<bf16>(Shape { head_dim: 32, ..PLAIN }, 8);
    decode::<f16>(Shape { head_dim: 32, block_size: 48, kv_heads: 1 }, 5);
}

/// The check of a draft: a few rows of a long sequence, across the boundary of a split.
#[test]
fn few_rows_over_a_long_prefix() {
    let mut step = Step::<f16>::new(5, &[520, 260], PLAIN);
    let chain = step.chain(8, 0, 2, &[(0, 508, 12), (1, 250, 10)]);
    step.check(&[chain], scale(PLAIN));
}

#[test]
fn prefill_and_decode_in_one_step() {
    let mut step = Step::<bf16>::new(6, &[90, 400, 33], PLAIN);
    let ranges = [(0, 0, 90), (1, 399, 1), (2, 1, 32)];
    let chains = [step.chain(2, 0, 2, &ranges), step.chain(4, 0, 2, &[(0, 89, 1), (1, 399, 1)])];
    step.check(&chains, scale(PLAIN));
}

/// Scores in the hundreds. The largest must not overflow, wherever it is. Where all scores are far below 0, as in some
/// of the first rows, the weights must not vanish.
#[test]
fn sharp_softmax() {
    let mut step = Step::<f16>::new(7, &[300, 600, 70, 3], PLAIN);
    let chains = [step.chain(2, 0, 2, &[(0, 200, 100), (1, 599, 1), (2, 0, 70), (3, 0, 3)])];
    for scale in [8.0, 60.0] {
        step.check(&chains, scale);
    }
}

#[test]
fn queries_may_be_parts_of_wider_rows() {
    let mut step = Step::<f16>::new(8, &[70], PLAIN);
    let narrow = step.chain(2, 0, 2, &[(0, 0, 70)]);
    let mut wide = vec![f16::NAN; 70 * 200];
    for (row, q) in narrow.q.as_slice().chunks(narrow.q_stride).enumerate() {
        wide[row * 200..][..q.len()].copy_from_slice(q);
    }
    let expected = step.attend(&[narrow], 0.125);
    let heads = step.chain(2, 0, 2, &[]).heads;
    let wide = Chain { heads, ranges: vec![(0, 0, 70)], q: Aligned::new(&wide), q_stride: 200 };
    assert_eq!(step.attend(&[wide], 0.125), expected);
}

/// The bits of some rows of a chain's result.
pub fn bits<T: HalfFloat>(out: &[T], width: usize, rows: std::ops::Range<usize>) -> Vec<u16> {
    out[rows.start * width..rows.end * width].iter().map(|x| x.bits()).collect()
}

/// The bits are the same alone and in a batch, and from any KV blocks.
#[test]
fn a_row_does_not_depend_on_the_rest_of_the_batch() {
    let ranges = [(0, 20, 80), (1, 0, 7), (2, 700, 1), (3, 0, 150)];
    let lengths = [100, 7, 701, 150];
    let mut step = Step::<bf16>::new(9, &lengths, PLAIN);
    let batch = step.chain(4, 0, 2, &ranges);
    let width = batch.q_stride;
    let mut first = 0;
    let queries: Vec<Vec<bf16>> = ranges
        .iter()
        .map(|range| {
            first += range.2;
            batch.q.as_slice()[(first - range.2) * width..first * width].to_vec()
        })
        .collect();
    let heads = batch.heads;
    let together = step.attend(&[batch], 0.125).remove(0);
    step.move_blocks();
    let mut first = 0;
    for (range, q) in ranges.into_iter().zip(queries) {
        let alone = Chain { heads, ranges: vec![range], q: Aligned::new(&q), q_stride: width };
        let alone = step.attend(&[alone], 0.125).remove(0);
        let rows = first..first + range.2;
        assert_eq!(bits(&alone, width, 0..range.2), bits(&together, width, rows), "{range:?}");
        first += range.2;
    }
}

/// The bits are the same for a prompt in one piece and in chunks that are long enough for prefill tiles. A row
/// therefore does not depend on its place in a tile either.
#[test]
fn a_row_does_not_depend_on_where_a_prompt_was_cut() {
    let mut step = Step::<f16>::new(10, &[230], PLAIN);
    let uncut = step.chain(2, 0, 2, &[(0, 0, 230)]);
    let (heads, width) = (uncut.heads, uncut.q_stride);
    let q = uncut.q.as_slice().to_vec();
    let expected = step.attend(&[uncut], 0.125).remove(0);
    for cut in [65, 100, 165] {
        let ranges = vec![(0, 0, cut), (0, cut, 230 - cut)];
        let cut = Chain { heads, ranges, q: Aligned::new(&q), q_stride: width };
        let out = step.attend(&[cut], 0.125).remove(0);
        assert_eq!(bits(&out, width, 0..230), bits(&expected, width, 0..230));
    }
}

/// A decoded row whose keys are in one split has the same bits after a merge of splits.
#[test]
fn a_row_does_not_depend_on_later_rows_of_its_range() {
    let mut step = Step::<f16>::new(11, &[270], PLAIN);
    let both = step.chain(2, 0, 2, &[(0, 250, 10)]);
    let (heads, width) = (both.heads, both.q_stride);
    let q = both.q.as_slice()[..width * 6].to_vec();
    let expected = step.attend(&[both], 0.125).remove(0);
    let first = Chain { heads, ranges: vec![(0, 250, 6)], q: Aligned::new(&q), q_stride: width };
    assert_eq!(plan(std::slice::from_ref(&first)).unwrap().1.partials, 0);
    let out = step.attend(&[first], 0.125).remove(0);
    assert_eq!(bits(&out, width, 0..6), bits(&expected, width, 0..6));
}

#[test]
fn the_longest_prefill_tiles_start_first() {
    let mut step = Step::<f16>::new(12, &[300, 500], PLAIN);
    let chain = step.chain(2, 0, 2, &[(0, 0, 300), (1, 0, 500)]);
    let (words, plan) = plan(&[chain]).unwrap();
    assert_eq!((plan.prefill, plan.decode, plan.combine), (2 * (3 + 4), 0, 0));
    // A tile is 7 words, of which the first position, the first query and the number of queries are at 2, 5 and 6.
    let last: Vec<_> = words.chunks(7).map(|tile| tile[2] + tile[5] + tile[6]).collect();
    assert_eq!(last.len(), 2 * (3 + 4));
    assert!(last.is_sorted_by(|a, b| a >= b), "{last:?}");
}

#[test]
fn unsupported_arguments_are_errors() {
    type Change = fn(&mut Step<f16>, &mut Chain<f16>);
    let cases: [(Change, f32, &str); 7] = [
        (
            |step, _| step.cache.shape.block_size = 8,
            0.125,
            "block_size is not one of the supported 16, 32, 48, 64",
        ),
        (
            |step, _| step.cache.shape.head_dim = 16,
            0.125,
            "head_dim is not one of the supported 32, 64, 128",
        ),
        (|_, chain| chain.heads.kv_heads = 3, 0.125, "heads are not"),
        (|_, chain| chain.heads.first_kv_head = 1, 0.125, "heads are not"),
        (|_, chain| chain.q_stride = 100, 0.125, "a size is"),
        (|_, chain| chain.q_stride = 64, 0.125, "a size is"),
        (|_, _| (), -0.125, "a size is"),
    ];
    for (change, scale, reason) in cases {
        let mut step = Step::<f16>::new(13, &[5], PLAIN);
        let mut chain = step.chain(2, 0, 2, &[(0, 0, 5)]);
        change(&mut step, &mut chain);
        let status = step.try_attend(&[chain], scale).unwrap_err();
        assert!(status_text(status).contains(reason), "{}", status_text(status));
    }
    let mut step = Step::<f16>::new(14, &[5], PLAIN);
    let chains: Vec<_> = (0..17).map(|_| step.chain(2, 0, 2, &[(0, 0, 5)])).collect();
    let status = step.try_attend(&chains, 0.125).unwrap_err();
    assert!(status_text(status).contains("at most 16"), "{}", status_text(status));
}
