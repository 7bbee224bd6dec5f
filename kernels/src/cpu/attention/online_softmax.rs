//! The inner loop of attention: query vectors against a run of keys, with an online softmax.
//!
//! Both products, queries times keys and weights times values, use the GEMM micro-kernel. Every accumulator is one
//! sequence of multiply-adds in the order of the summed index, which is the same for a query vector in any tile.

use std::ops::Range;

use super::key_tile::{KeyTile, KeyTileReader, LayerCache};
use crate::cpu::arch::{self, Isa, IsaKernel, Lanes, Portable, LANES};
use crate::cpu::exp::exp;
use crate::cpu::gemm::{NrVector, KC, MR, NR};
use crate::cpu::Element;

/// How many tiles ahead keys and values are prefetched: far enough that they arrive before they are read.
const PREFETCH_DISTANCE: usize = 2;

/// Up to [`MR`] query vectors of one key/value head, packed as lhs micro-panels.
pub(super) struct QueryPanel {
    /// Micro-panels of [`KC`] elements of a head; row-major within each.
    data: Vec<[f32; KC]>,
    rows: usize,
    /// How many positions each row attends to.
    visible: [usize; MR],
}

impl QueryPanel {
    /// Packs up to [`MR`] vectors of `head_dim` numbers, multiplied by `scale`. Each comes with the number of positions
    /// it attends to.
    pub(super) fn pack<'a>(
        queries: impl ExactSizeIterator<Item = (&'a [f32], usize)>,
        head_dim: usize,
        scale: f32,
    ) -> Self {
        let rows = queries.len();
        let mut data = vec![[0.0; KC]; head_dim.div_ceil(KC) * rows];
        let mut visible = [0; MR];
        for (row, (query, sees)) in queries.enumerate() {
            visible[row] = sees;
            for (depth_panel, query) in query.chunks(KC).enumerate() {
                for (to, &from) in data[depth_panel * rows + row].iter_mut().zip(query) {
                    *to = from * scale;
                }
            }
        }
        Self { data, rows, visible }
    }
}

/// The softmax of [`MR`] rows over the keys so far, and the values weighted with it.
#[derive(Clone)]
pub(super) struct OnlineSoftmax {
    /// The maximum score, negative infinity before the first key.
    max: [f32; MR],
    /// The sum of `exp(score - max)`. Column c sums the keys at positions c modulo [`NR`].
    sum: [NrVector; MR],
    /// The sum of `exp(score - max) * value`, in panels of [`NR`] elements of a head.
    out: Vec<[NrVector; MR]>,
}

impl OnlineSoftmax {
    fn new(head_dim: usize) -> Self {
        Self {
            max: [f32::NEG_INFINITY; MR],
            sum: [[0.0; NR]; MR],
            out: vec![[[0.0; NR]; MR]; head_dim.div_ceil(NR)],
        }
    }

    /// Adds the next key tile. Row r attends to the first `visible[r]` of its keys; not all of them are 0.
    #[inline(always)]
    fn update<I: Isa, T: Element>(
        &mut self,
        queries: &QueryPanel,
        visible: [usize; MR],
        tile: &KeyTile<T>,
    ) {
        let mut scores = [[0.0; NR]; MR];
        for (q, keys) in queries.data.chunks_exact(queries.rows).zip(tile.keys.chunks(KC)) {
            I::micro_kernel(q, keys, &mut scores[..queries.rows]);
        }
        self.scores_to_weights::<I>(&mut scores[..queries.rows], visible);
        let (weights, visible) = (&scores[..queries.rows], &visible[..queries.rows]);
        let least = visible.iter().copied().fold(NR, usize::min);
        let most = visible.iter().copied().fold(0, usize::max);
        for (out, values) in self.out.iter_mut().zip(tile.values.chunks(tile.value_stride)) {
            // In most tiles, and in decoding, every row sees the same keys.
            if least == most || all_finite(&values[least..most]) {
                I::micro_kernel(weights, &values[..most], &mut out[..queries.rows]);
                continue;
            }
            // A later position of another row, or a slot that was never written, may have values that are not finite. Its
            // weight is 0, but 0 times NaN is NaN.
            for (row, &visible) in visible.iter().enumerate() {
                I::micro_kernel(&weights[row..=row], &values[..visible], &mut out[row..=row]);
            }
        }
    }

    /// Replaces scores by `exp(score - max)` and rescales the previous sums to the new maximum.
    #[inline(always)]
    fn scores_to_weights<I: Isa>(&mut self, scores: &mut [NrVector], visible: [usize; MR]) {
        let mut base = [0.0; MR];
        let mut rescale = [0.0; MR];
        for (row, scores) in scores.iter_mut().enumerate() {
            if visible[row] < NR {
                scores[visible[row]..].fill(f32::NEG_INFINITY);
            }
            let max = max_of(scores, self.max[row]);
            base[row] = finite(max);
            rescale[row] = self.max[row] - base[row];
            self.max[row] = max;
        }
        rescale.iter_mut().for_each(|rescale| *rescale = exp::<I>(*rescale));
        for (row, scores) in scores.iter_mut().enumerate() {
            let (base, rescale) = (base[row], rescale[row]);
            // Most tiles do not raise the maximum; a factor of 1 changes nothing.
            if rescale != 1.0 {
                self.sum[row].iter_mut().for_each(|sum| *sum *= rescale);
                for out in &mut self.out {
                    out[row].iter_mut().for_each(|out| *out *= rescale);
                }
            }
            for (score, sum) in scores.iter_mut().zip(&mut self.sum[row]) {
                *score = exp::<I>(*score - base);
                *sum += *score;
            }
        }
    }

    /// Merges the softmax of the same rows over the keys that follow.
    pub(super) fn merge(&mut self, later: &OnlineSoftmax) {
        for row in 0..MR {
            let max = max_of_two(self.max[row], later.max[row]);
            let scale = exp::<Portable>(self.max[row] - finite(max));
            let later_scale = exp::<Portable>(later.max[row] - finite(max));
            self.max[row] = max;
            let out = self.out.iter_mut().zip(&later.out);
            let out = out.map(|(out, later)| (&mut out[row], &later[row]));
            for (sums, later) in out.chain([(&mut self.sum[row], &later.sum[row])]) {
                for (sum, later) in sums.iter_mut().zip(later) {
                    *sum = *sum * scale + later * later_scale;
                }
            }
        }
    }

    /// The output of a row, panel by panel.
    pub(super) fn finish(&self, row: usize) -> impl Iterator<Item = NrVector> + '_ {
        let sum = sum_of(&self.sum[row]);
        self.out.iter().map(move |out| out[row].map(|number| number / sum))
    }
}

/// Some query panels against the keys at `positions`, which begin at a key tile.
pub(super) struct AttendSplit<'a, T> {
    pub cache: &'a LayerCache<'a, T>,
    pub table: &'a [u32],
    pub kv_head: usize,
    pub queries: &'a [QueryPanel],
    pub positions: Range<usize>,
}

impl<T: Element> IsaKernel for AttendSplit<'_, T> {
    type Output = Vec<OnlineSoftmax>;

    #[inline(always)]
    fn run<I: Isa>(self) -> Vec<OnlineSoftmax> {
        let head_dim = self.cache.layout.head_dim;
        let mut softmaxes = vec![OnlineSoftmax::new(head_dim); self.queries.len()];
        let mut reader = KeyTileReader::new(self.cache, self.table, self.kv_head);
        for start in self.positions.clone().step_by(NR) {
            let count = NR.min(self.positions.end - start);
            let ahead = start + PREFETCH_DISTANCE * NR;
            if ahead < self.positions.end {
                reader.prefetch(ahead);
            }
            let tile = reader.read(start, count);
            for (queries, softmax) in self.queries.iter().zip(&mut softmaxes) {
                let visible =
                    queries.visible.map(|visible| visible.saturating_sub(start).min(count));
                if visible != [0; MR] {
                    softmax.update::<I, T>(queries, visible, &tile);
                }
            }
        }
        softmaxes
    }
}

/// Whether all numbers are finite. 0 times a finite number is 0, and NaN otherwise: a sum without branches, which is
/// vectorized.
#[inline(always)]
fn all_finite<T: Element>(values: &[[T; NR]]) -> bool {
    let (mut wide, mut zeros) = ([0.0; NR], [0.0; NR]);
    for values in values {
        T::widen(values, &mut wide);
        zeros.iter_mut().zip(&wide).for_each(|(zero, &value)| *zero += 0.0 * value);
    }
    zeros == [0.0; NR]
}

/// The maximum of the scores and `first`.
#[inline(always)]
fn max_of(scores: &NrVector, first: f32) -> f32 {
    let mut lanes: Lanes = [f32::NEG_INFINITY; LANES];
    for scores in scores.as_chunks::<LANES>().0 {
        for (lane, &score) in lanes.iter_mut().zip(scores) {
            *lane = max_of_two(*lane, score);
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = max_of_two(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    max_of_two(first, lanes[0])
}

fn sum_of(columns: &NrVector) -> f32 {
    let mut lanes: Lanes = [0.0; LANES];
    for columns in columns.as_chunks::<LANES>().0 {
        for (lane, &column) in lanes.iter_mut().zip(columns) {
            *lane += column;
        }
    }
    arch::sum(lanes)
}

/// The larger of two numbers, the first if either is NaN. One instruction, unlike `f32::max`.
#[inline(always)]
fn max_of_two(a: f32, b: f32) -> f32 {
    if b > a {
        b
    } else {
        a
    }
}

/// The number subtracted from scores: their maximum, or 0 if there is no score yet.
#[inline(always)]
fn finite(max: f32) -> f32 {
    if max == f32::NEG_INFINITY {
        0.0
    } else {
        max
    }
}
