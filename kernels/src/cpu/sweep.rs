//! The inner loops of attention: query rows sweep a run of keys with an online softmax.
//!
//! Both products, of queries with keys and of weights with values, are sums of outer products, each
//! number being one chain of multiply-adds in the order of the summed index. That order is the same
//! for a row in any company.

use std::ops::Range;

use super::exp::exp;
use super::instructions::{self, Instructions, Kernel, Lanes, Portable, LANES};
use super::key_tile::{Cache, KeyTiles, Tile};
use super::outer::{Columns, COLUMNS, ROWS};
use super::tiles::DEPTH;
use super::Element;

/// How far ahead of the products keys and values are brought near, in tiles.
const TILES_AHEAD: usize = 2;

/// Up to `ROWS` query rows of one key/value head.
pub(crate) struct QueryRows {
    /// Piece by piece of `DEPTH` numbers of a head, a row after the other.
    q: Vec<[f32; DEPTH]>,
    rows: usize,
    /// The row at position p sees p + 1 positions.
    visible: [usize; ROWS],
}

impl QueryRows {
    /// `queries`: up to `ROWS` rows of `head_dim` numbers, to be multiplied by `scale`, and how many
    /// positions each sees.
    pub(crate) fn new<'a>(
        queries: impl ExactSizeIterator<Item = (&'a [f32], usize)>,
        head_dim: usize,
        scale: f32,
    ) -> Self {
        let rows = queries.len();
        let mut q = vec![[0.0; DEPTH]; head_dim.div_ceil(DEPTH) * rows];
        let mut visible = [0; ROWS];
        for (row, (query, sees)) in queries.enumerate() {
            visible[row] = sees;
            for (piece, query) in query.chunks(DEPTH).enumerate() {
                for (to, &from) in q[piece * rows + row].iter_mut().zip(query) {
                    *to = from * scale;
                }
            }
        }
        Self { q, rows, visible }
    }
}

/// The softmax of `ROWS` rows over the keys swept so far, and the values weighted with it.
#[derive(Clone)]
pub(crate) struct Softmax {
    /// The largest score, negative infinity before the first.
    max: [f32; ROWS],
    /// The sum of `exp(score - max)`; column c has the keys at positions c modulo COLUMNS.
    sum: [Columns; ROWS],
    /// The sum of `exp(score - max) * value`, in panels of `COLUMNS` numbers of a head.
    out: Vec<[Columns; ROWS]>,
}

impl Softmax {
    fn of_nothing(head_dim: usize) -> Self {
        Self {
            max: [f32::NEG_INFINITY; ROWS],
            sum: [[0.0; COLUMNS]; ROWS],
            out: vec![[[0.0; COLUMNS]; ROWS]; head_dim.div_ceil(COLUMNS)],
        }
    }

    /// Takes in the next tile of keys. Of it, row r sees the first `visible[r]`, not all of them 0.
    #[inline(always)]
    fn absorb<I: Instructions, T: Element>(
        &mut self,
        rows: &QueryRows,
        visible: [usize; ROWS],
        tile: &Tile<T>,
    ) {
        let mut scores = [[0.0; COLUMNS]; ROWS];
        for (q, keys) in rows.q.chunks_exact(rows.rows).zip(tile.keys.chunks(DEPTH)) {
            I::add_outer_products(q, keys, &mut scores[..rows.rows]);
        }
        self.weigh::<I>(&mut scores[..rows.rows], visible);
        let weights = &scores[..rows.rows];
        let most = visible.into_iter().fold(0, usize::max);
        for (out, values) in self.out.iter_mut().zip(tile.values.chunks(tile.stride)) {
            I::add_outer_products(weights, &values[..most], &mut out[..rows.rows]);
        }
    }

    /// Scores become weights, and what stands of the rows so far is brought to the new maximum.
    #[inline(always)]
    fn weigh<I: Instructions>(&mut self, scores: &mut [Columns], visible: [usize; ROWS]) {
        let mut base = [0.0; ROWS];
        let mut rescale = [0.0; ROWS];
        for (row, scores) in scores.iter_mut().enumerate() {
            if visible[row] < COLUMNS {
                scores[visible[row]..].fill(f32::NEG_INFINITY);
            }
            let max = largest(scores, self.max[row]);
            base[row] = finite(max);
            rescale[row] = self.max[row] - base[row];
            self.max[row] = max;
        }
        rescale.iter_mut().for_each(|rescale| *rescale = exp::<I>(*rescale));
        for (row, scores) in scores.iter_mut().enumerate() {
            let (base, rescale) = (base[row], rescale[row]);
            // Most tiles bring no new maximum, and 1 changes nothing.
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

    /// Takes in what the same rows made of the keys that follow.
    pub(crate) fn merge(&mut self, later: &Softmax) {
        for row in 0..ROWS {
            let max = larger(self.max[row], later.max[row]);
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

    /// The result of a row, panel by panel.
    pub(crate) fn finish(&self, row: usize) -> impl Iterator<Item = Columns> + '_ {
        let sum = sum_of(&self.sum[row]);
        self.out.iter().map(move |out| out[row].map(|number| number / sum))
    }
}

/// The sweep of some rows over `keys`, which begin where a tile does.
pub(crate) struct Sweep<'a, T> {
    pub cache: &'a Cache<'a, T>,
    pub table: &'a [u32],
    pub kv_head: usize,
    pub rows: &'a [QueryRows],
    pub keys: Range<usize>,
}

impl<T: Element> Kernel for Sweep<'_, T> {
    type Output = Vec<Softmax>;

    #[inline(always)]
    fn run<I: Instructions>(self) -> Vec<Softmax> {
        let head_dim = self.cache.kv.head_dim();
        let mut softmaxes = vec![Softmax::of_nothing(head_dim); self.rows.len()];
        let mut tiles = KeyTiles::new(self.cache, self.table, self.kv_head);
        for start in self.keys.clone().step_by(COLUMNS) {
            let count = COLUMNS.min(self.keys.end - start);
            let soon = start + TILES_AHEAD * COLUMNS;
            if soon < self.keys.end {
                tiles.prefetch(soon);
            }
            let tile = tiles.fetch(start, count);
            for (rows, softmax) in self.rows.iter().zip(&mut softmaxes) {
                let visible = rows.visible.map(|visible| visible.saturating_sub(start).min(count));
                if visible != [0; ROWS] {
                    softmax.absorb::<I, T>(rows, visible, &tile);
                }
            }
        }
        softmaxes
    }
}

/// The largest of the scores and `first`.
#[inline(always)]
fn largest(scores: &Columns, first: f32) -> f32 {
    let mut lanes: Lanes = [f32::NEG_INFINITY; LANES];
    for scores in scores.as_chunks::<LANES>().0 {
        for (lane, &score) in lanes.iter_mut().zip(scores) {
            *lane = larger(*lane, score);
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = larger(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    larger(first, lanes[0])
}

fn sum_of(columns: &Columns) -> f32 {
    let mut lanes: Lanes = [0.0; LANES];
    for columns in columns.as_chunks::<LANES>().0 {
        for (lane, &column) in lanes.iter_mut().zip(columns) {
            *lane += column;
        }
    }
    instructions::sum(lanes)
}

/// The larger of two, the first if either is NaN: one instruction, unlike `f32::max`.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a {
        b
    } else {
        a
    }
}

/// What scores are taken relative to: their maximum, or 0 where there is no score yet.
#[inline(always)]
fn finite(max: f32) -> f32 {
    if max == f32::NEG_INFINITY {
        0.0
    } else {
        max
    }
}
