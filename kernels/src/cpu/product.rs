//! Products of rows with packed weights: tiles of rows times panels of outputs.
//!
//! Every number is one sum over the inputs in their order, so a row's result depends on nothing but
//! the row and the weights: not on other rows, on the number of threads or on how the work is cut.

use std::ops::Range;

use super::exp::exp;
use super::instructions::{self, Instructions, Kernel};
use super::outer::{Columns, Right, COLUMNS, FEW_ROWS, ROWS};
use super::rectangles::Rectangles;
use super::team;
use super::tiles::{Tiles, DEPTH};
use super::Rows;

/// Tiles of a task: while a piece of a panel is at hand, all of them use it.
const TILES: usize = 16;

/// Tasks per thread, so that one that is late is not waited for long.
const TASKS_PER_THREAD: usize = 4;

/// Below this many weights, for a few rows, another thread would not help.
const MIN_WEIGHTS_PER_TASK: usize = 1 << 15;

/// One panel of outputs, and what becomes of its sums.
pub(crate) struct Unit<'a, W> {
    /// The weights of one input after the other.
    pub panel: &'a [W],
    /// One number per column, or none.
    pub bias: &'a [f32],
    /// With a second panel and its bias: silu(first) * second.
    pub up: Option<(&'a [W], &'a [f32])>,
    /// Added at the end: rows as wide as `out`.
    pub plus: Option<&'a Rows<'a, f32>>,
    pub out: &'a Rectangles,
    /// The columns of `out`, at most `COLUMNS`.
    pub columns: Range<usize>,
}

impl<W: Right> Unit<'_, W> {
    fn weights(&self) -> usize {
        self.panel.len() * W::INPUTS * COLUMNS * (1 + usize::from(self.up.is_some()))
    }
}

/// Rows, and the units that are computed of each.
pub(crate) struct Product<'a, W> {
    pub tiles: Tiles,
    /// No two units have a column of the same `out`; nor have those of other products.
    pub units: Vec<Unit<'a, W>>,
}

/// Computes all units of all rows.
pub(crate) fn multiply<W: Right + Sync>(products: &[Product<W>]) {
    let mut tasks = Vec::new();
    for product in products {
        product.cut(&mut tasks);
    }
    team::for_each(tasks.len(), |index| instructions::run(&tasks[index]));
}

impl<W: Right> Product<'_, W> {
    fn cut<'a>(&'a self, tasks: &mut Vec<Task<'a, W>>) {
        let weights: usize = self.units.iter().map(Unit::weights).sum();
        let blocks = self.tiles.count().div_ceil(TILES);
        let wanted = (TASKS_PER_THREAD * team::threads()).div_ceil(blocks.max(1));
        let rows = self.tiles.rows().min(TILES * ROWS);
        let worth = weights * rows.div_ceil(8) / MIN_WEIGHTS_PER_TASK;
        let per_part = weights.div_ceil(wanted.min(worth).max(1));
        for block in 0..blocks {
            let tiles = block * TILES..self.tiles.count().min((block + 1) * TILES);
            let mut units = self.units.as_slice();
            while !units.is_empty() {
                let mut taken = 0;
                let count = units.iter().take_while(|unit| {
                    let more = taken < per_part;
                    taken += unit.weights();
                    more
                });
                let (part, rest) = units.split_at(count.count().max(1));
                tasks.push(Task { rows: &self.tiles, tiles: tiles.clone(), units: part });
                units = rest;
            }
        }
    }
}

/// Some tiles and some units.
struct Task<'a, W> {
    rows: &'a Tiles,
    tiles: Range<usize>,
    units: &'a [Unit<'a, W>],
}

type Sums = [Columns; ROWS];

impl<W: Right> Kernel for &Task<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<I: Instructions>(self) {
        let mut sums = vec![[[0.0; COLUMNS]; ROWS]; self.tiles.len()];
        let gated = self.units.iter().any(|unit| unit.up.is_some());
        let mut up_sums = vec![[[0.0; COLUMNS]; ROWS]; if gated { self.tiles.len() } else { 0 }];
        // Weights that have to be turned into f32 are so once for all tiles, if there are several, and for
        // all rows of one, if there are many.
        let many = |tile| !W::MANY_ROWS && self.rows.live(tile) > FEW_ROWS;
        let turned = !W::IS_F32 && (self.tiles.len() > 1 || self.tiles.clone().any(many));
        let mut wide = vec![[0.0; COLUMNS]; if turned { DEPTH } else { 0 }];
        for unit in self.units {
            self.add_products::<I>(unit.panel, &mut wide, &mut sums);
            if let Some((panel, _)) = unit.up {
                self.add_products::<I>(panel, &mut wide, &mut up_sums);
            }
            for (index, tile) in self.tiles.clone().enumerate() {
                let first = tile * ROWS;
                for row in 0..self.rows.live(tile) {
                    let mut numbers = sums[index][row];
                    add(&mut numbers, unit.bias);
                    if let Some((_, bias)) = unit.up {
                        let mut up = up_sums[index][row];
                        add(&mut up, bias);
                        silu_mul::<I>(&mut numbers, &up);
                    }
                    if let Some(plus) = unit.plus {
                        add(&mut numbers, &plus.row(first + row)[unit.columns.clone()]);
                    }
                    let live = &numbers[..unit.columns.len()];
                    // SAFETY: this task alone has these rows of this unit, and this unit alone
                    // these columns.
                    unsafe { unit.out.put(first + row, unit.columns.start, live) };
                }
            }
        }
    }
}

impl<W: Right> Task<'_, W> {
    /// The sums of all tiles of the task, from zero.
    #[inline(always)]
    fn add_products<I: Instructions>(&self, panel: &[W], wide: &mut [Columns], sums: &mut [Sums]) {
        for (tile, sums) in self.tiles.clone().zip(&mut *sums) {
            sums[..self.rows.live(tile)].fill([0.0; COLUMNS]);
        }
        for (piece, right) in panel.chunks(DEPTH / W::INPUTS).enumerate() {
            if wide.is_empty() {
                self.add_piece::<I, W>(piece, right, sums);
            } else {
                let wide = &mut wide[..right.len() * W::INPUTS];
                I::widen(right, wide);
                self.add_piece::<I, Columns>(piece, wide, sums);
            }
        }
    }

    #[inline(always)]
    fn add_piece<I: Instructions, R: Right>(&self, piece: usize, right: &[R], sums: &mut [Sums]) {
        for (tile, sums) in self.tiles.clone().zip(sums) {
            let left = self.rows.piece(tile, piece);
            I::add_outer_products(left, right, &mut sums[..left.len()]);
        }
    }
}

#[inline(always)]
fn add(numbers: &mut Columns, others: &[f32]) {
    for (number, other) in numbers.iter_mut().zip(others) {
        *number += other;
    }
}

/// gate = silu(gate) * up.
#[inline(always)]
fn silu_mul<I: Instructions>(gate: &mut Columns, up: &Columns) {
    for (gate, &up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp::<I>(-*gate)) * up;
    }
}
