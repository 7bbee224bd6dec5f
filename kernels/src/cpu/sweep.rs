//! The inner loops of attention: query rows sweep a run of keys with an online softmax.
//!
//! Both products, of queries with keys and of weights with values, are sums of outer products
//! ([`add_outer_products`]), each number being one chain of multiply-adds in the order of the summed
//! index. That order is the same for a row in any company.

use std::ops::Range;

use super::exp::exp;
use super::lanes::{self, Kernel, Lanes, MulAdd, Separate, LANES};
use super::Element;
use crate::KvBlocks;

/// Query rows worked on together; with [`LANES`] as many sums as the registers of AVX2 hold.
pub(crate) const ROWS: usize = 4;

/// Keys fetched together. Their tile and that of their values stay in the first-level cache.
const KEYS: usize = 64;

const KEY_PANELS: usize = KEYS / LANES;

/// The numbers of one layer's cache.
pub(crate) struct Cache<'a, T> {
    pub keys: &'a [T],
    pub values: &'a [T],
    pub kv: &'a KvBlocks,
}

/// `ROWS` query rows of one key/value head.
pub(crate) struct QueryRows {
    /// `[head_dim]` of one number per row, the scale multiplied in.
    q: Vec<[f32; ROWS]>,
    /// The row at position p sees p + 1 positions.
    visible: [usize; ROWS],
}

impl QueryRows {
    /// `q` is `[rows, head_dim]` with up to `ROWS` rows; `visible` tells what a row sees. Missing
    /// rows are zeros and see nothing.
    pub(crate) fn new(q: &[f32], head_dim: usize, visible: impl Fn(usize) -> usize) -> Self {
        let mut rows = Self { q: vec![[0.0; ROWS]; head_dim], visible: [0; ROWS] };
        for (row, q) in q.chunks_exact(head_dim).enumerate() {
            rows.visible[row] = visible(row);
            for (to, &q) in rows.q.iter_mut().zip(q) {
                to[row] = q;
            }
        }
        rows
    }
}

/// The softmax of `ROWS` rows over the keys swept so far, and the values weighted with it.
#[derive(Clone)]
pub(crate) struct Softmax {
    /// The largest score, negative infinity before the first.
    max: [f32; ROWS],
    /// The sum of `exp(score - max)`; lane l has the keys at positions l modulo LANES.
    sum: [Lanes; ROWS],
    /// The sum of `exp(score - max) * value`, in panels of `LANES` columns.
    out: Vec<[Lanes; ROWS]>,
}

impl Softmax {
    fn of_nothing(head_dim: usize) -> Self {
        Self {
            max: [f32::NEG_INFINITY; ROWS],
            sum: [[0.0; LANES]; ROWS],
            out: vec![[[0.0; LANES]; ROWS]; head_dim.div_ceil(LANES)],
        }
    }

    /// Takes in the next tile of keys. Of it, row r sees the first `visible[r]`, not all of them 0.
    #[inline(always)]
    fn absorb<F: MulAdd>(&mut self, q: &[[f32; ROWS]], visible: [usize; ROWS], tile: &KeyTile) {
        let most = visible.into_iter().fold(0, usize::max);
        let mut scores = [[[0.0; LANES]; ROWS]; KEY_PANELS];
        let scores = &mut scores[..most.div_ceil(LANES)];
        let mut max = [[f32::NEG_INFINITY; LANES]; ROWS];
        for (panel, (scores, keys)) in
            scores.iter_mut().zip(tile.keys.chunks_exact(q.len())).enumerate()
        {
            add_outer_products::<F>(scores, q, keys);
            for row in 0..ROWS {
                hide(&mut scores[row], visible[row].saturating_sub(panel * LANES));
                for lane in 0..LANES {
                    max[row][lane] = larger(max[row][lane], scores[row][lane]);
                }
            }
        }
        let mut rescale = [0.0; ROWS];
        for row in 0..ROWS {
            let max = max[row].into_iter().fold(self.max[row], larger);
            rescale[row] = exp::<F>(self.max[row] - finite(max));
            self.max[row] = max;
            self.sum[row].iter_mut().for_each(|sum| *sum *= rescale[row]);
        }
        let mut weights = [[0.0; ROWS]; KEYS];
        for (scores, weights) in scores.iter().zip(weights.chunks_exact_mut(LANES)) {
            for row in 0..ROWS {
                let base = finite(self.max[row]);
                for lane in 0..LANES {
                    let weight = exp::<F>(scores[row][lane] - base);
                    self.sum[row][lane] += weight;
                    weights[lane][row] = weight;
                }
            }
        }
        for (out, values) in self.out.iter_mut().zip(tile.values.chunks_exact(KEYS)) {
            for row in 0..ROWS {
                out[row].iter_mut().for_each(|out| *out *= rescale[row]);
            }
            add_outer_products::<F>(out, &weights[..most], &values[..most]);
        }
    }

    /// Takes in what the same rows made of the keys that follow.
    pub(crate) fn merge(&mut self, later: &Softmax) {
        for row in 0..ROWS {
            let max = larger(self.max[row], later.max[row]);
            let scale = exp::<Separate>(self.max[row] - finite(max));
            let later_scale = exp::<Separate>(later.max[row] - finite(max));
            self.max[row] = max;
            for lane in 0..LANES {
                self.sum[row][lane] =
                    self.sum[row][lane] * scale + later.sum[row][lane] * later_scale;
            }
            for (out, later) in self.out.iter_mut().zip(&later.out) {
                for lane in 0..LANES {
                    out[row][lane] = out[row][lane] * scale + later[row][lane] * later_scale;
                }
            }
        }
    }

    /// The results, row after row of `head_dim` numbers.
    pub(crate) fn finish(&self, head_dim: usize) -> impl Iterator<Item = f32> + '_ {
        (0..ROWS).flat_map(move |row| {
            let sum = lanes::sum(self.sum[row]);
            let columns = self.out.iter().flat_map(move |panel| panel[row]);
            columns.take(head_dim).map(move |out| out / sum)
        })
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
    fn run<F: MulAdd>(self) -> Vec<Softmax> {
        let head_dim = self.cache.kv.head_dim();
        let mut softmaxes = vec![Softmax::of_nothing(head_dim); self.rows.len()];
        let mut tile = KeyTile::new(head_dim);
        for start in self.keys.clone().step_by(KEYS) {
            let count = KEYS.min(self.keys.end - start);
            for key in 0..count {
                let row = self.row_start(start + key)..;
                tile.set(key, &self.cache.keys[row.clone()], &self.cache.values[row]);
            }
            for (rows, softmax) in self.rows.iter().zip(&mut softmaxes) {
                let visible = rows.visible.map(|visible| visible.saturating_sub(start).min(count));
                if visible != [0; ROWS] {
                    softmax.absorb::<F>(&rows.q, visible, &tile);
                }
            }
        }
        softmaxes
    }
}

impl<T> Sweep<'_, T> {
    #[inline(always)]
    fn row_start(&self, position: usize) -> usize {
        let block_size = self.cache.kv.block_size();
        let block = self.table[position / block_size] as usize;
        self.cache.kv.row_start(block, self.kv_head, position % block_size)
    }
}

/// `KEYS` keys and values, arranged for the two products.
struct KeyTile {
    /// `[KEY_PANELS, head_dim]` of `LANES` keys.
    keys: Vec<Lanes>,
    /// `[column panels, KEYS]` of `LANES` columns.
    values: Vec<Lanes>,
    /// One row in f32; past `head_dim`, zeros up to a whole panel.
    row: Vec<f32>,
    head_dim: usize,
}

impl KeyTile {
    fn new(head_dim: usize) -> Self {
        let columns = head_dim.next_multiple_of(LANES);
        Self {
            keys: vec![[0.0; LANES]; KEY_PANELS * head_dim],
            values: vec![[0.0; LANES]; columns / LANES * KEYS],
            row: vec![0.0; columns],
            head_dim,
        }
    }

    #[inline(always)]
    fn set<T: Element>(&mut self, at: usize, key: &[T], value: &[T]) {
        T::widen(&key[..self.head_dim], &mut self.row[..self.head_dim]);
        let panel = &mut self.keys[at / LANES * self.head_dim..][..self.head_dim];
        for (lanes, &number) in panel.iter_mut().zip(&self.row) {
            lanes[at % LANES] = number;
        }
        T::widen(&value[..self.head_dim], &mut self.row[..self.head_dim]);
        for (panel, row) in self.values.chunks_exact_mut(KEYS).zip(self.row.chunks_exact(LANES)) {
            panel[at].copy_from_slice(row);
        }
    }
}

/// `sums[row][lane] += left[i][row] * right[i][lane]`, one i after the other.
#[inline(always)]
fn add_outer_products<F: MulAdd>(sums: &mut [Lanes; ROWS], left: &[[f32; ROWS]], right: &[Lanes]) {
    let mut local = *sums;
    for (left, right) in left.iter().zip(right) {
        for row in 0..ROWS {
            for lane in 0..LANES {
                local[row][lane] = F::mul_add(left[row], right[lane], local[row][lane]);
            }
        }
    }
    *sums = local;
}

/// Scores of keys from the `visible`-th on become negative infinity.
#[inline(always)]
fn hide(scores: &mut Lanes, visible: usize) {
    if visible < LANES {
        scores[visible..].fill(f32::NEG_INFINITY);
    }
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

#[cfg(test)]
mod tests {
    use super::super::lanes::Fused;
    use super::*;

    /// The build for processors without fused multiply-add, which the tests of the whole function
    /// do not reach on those that have it.
    #[test]
    fn both_ways_to_multiply_and_add_agree() {
        let head_dim = 24;
        let wave = |phase: f32| (0..100 * head_dim).map(move |n| (n as f32 * phase).sin());
        let (q, keys, values): (Vec<_>, Vec<_>, Vec<_>) =
            (wave(0.7).collect(), wave(0.31).collect(), wave(0.53).collect());
        let mut tiles = [KeyTile::new(head_dim), KeyTile::new(head_dim)];
        for key in 0..2 * KEYS - 28 {
            let row = key * head_dim..;
            tiles[key / KEYS].set::<f32>(key % KEYS, &keys[row.clone()], &values[row]);
        }
        let rows = QueryRows::new(&q[..3 * head_dim], head_dim, |_| 0);
        let mut fused = Softmax::of_nothing(head_dim);
        let mut separate = fused.clone();
        for (tile, visible) in tiles.iter().zip([[64, 64, 64, 0], [1, 20, 36, 0]]) {
            fused.absorb::<Fused>(&rows.q, visible, tile);
            separate.absorb::<Separate>(&rows.q, visible, tile);
        }
        let numbers = 3 * head_dim;
        for (a, b) in fused.finish(head_dim).zip(separate.finish(head_dim)).take(numbers) {
            assert!((a - b).abs() < 1e-5 && a != 0.0, "{a} {b}");
        }
    }
}
