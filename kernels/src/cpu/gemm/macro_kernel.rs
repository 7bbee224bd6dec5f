//! The macro-kernel: products are split into tasks, and a task runs the micro-kernel over up to [`MC`] rows and some
//! panels, with the epilogue (bias, SwiGLU, residual) fused.

use std::ops::Range;

use super::lhs::LhsPanels;
use super::output::OutputMatrix;
use super::{NrVector, PackedRhs, KC, MC, MR, NR, SMALL_MR};
use crate::cpu::arch::{self, Isa, IsaKernel};
use crate::cpu::exp::exp;
use crate::cpu::{thread_pool, TensorRows};

/// Row tiles of [`MR`] rows in a task.
const TILES_PER_TASK: usize = MC / MR;

/// Tasks per thread. With several, a thread that is slower than the others takes fewer of them.
const TASKS_PER_THREAD: usize = 4;

/// The fewest weights of a task that is worth another thread, with up to 8 rows. With more rows, correspondingly fewer.
const MIN_WEIGHTS_PER_TASK: usize = 1 << 15;

/// One rhs panel and the epilogue of its outputs.
pub(crate) struct OutputPanel<'a, W> {
    pub weights: &'a [W],
    /// One number per column, or empty.
    pub bias: &'a [f32],
    /// SwiGLU: the panel and bias of the up projection. The output is silu(gate) * up, with this panel as the gate.
    pub up: Option<(&'a [W], &'a [f32])>,
    /// Added last: rows as wide as `out`.
    pub residual: Option<&'a TensorRows<'a, f32>>,
    pub out: &'a OutputMatrix,
    /// The columns of `out` that the panel computes, at most [`NR`].
    pub columns: Range<usize>,
}

impl<W: PackedRhs> OutputPanel<'_, W> {
    fn weight_count(&self) -> usize {
        self.weights.len() * W::DEPTH * NR * (1 + usize::from(self.up.is_some()))
    }
}

/// A product of one lhs with several panels.
pub(crate) struct Gemm<'a, W> {
    pub lhs: LhsPanels,
    /// No two panels, in this or another product of a call, share a column of an `out`.
    pub panels: Vec<OutputPanel<'a, W>>,
}

/// Computes all products.
pub(crate) fn gemm<W: PackedRhs + Sync>(products: &[Gemm<W>]) {
    let mut tasks = Vec::new();
    for product in products {
        product.split(&mut tasks);
    }
    thread_pool::for_each(tasks.len(), |index| arch::run(&tasks[index]));
}

impl<W: PackedRhs> Gemm<'_, W> {
    /// Splits the product into tasks of up to [`MC`] rows and about equal numbers of weights.
    fn split<'a>(&'a self, tasks: &mut Vec<Task<'a, W>>) {
        let weights: usize = self.panels.iter().map(OutputPanel::weight_count).sum();
        let row_blocks = self.lhs.row_tiles().div_ceil(TILES_PER_TASK);
        let wanted = (TASKS_PER_THREAD * thread_pool::thread_count()).div_ceil(row_blocks.max(1));
        let rows = self.lhs.rows().min(MC);
        let worthwhile = weights * rows.div_ceil(8) / MIN_WEIGHTS_PER_TASK;
        let weights_per_task = weights.div_ceil(wanted.min(worthwhile).max(1));
        for row_block in 0..row_blocks {
            let first = row_block * TILES_PER_TASK;
            let row_tiles = first..self.lhs.row_tiles().min(first + TILES_PER_TASK);
            let mut panels = self.panels.as_slice();
            while !panels.is_empty() {
                let mut taken = 0;
                let count = panels.iter().take_while(|panel| {
                    let more = taken < weights_per_task;
                    taken += panel.weight_count();
                    more
                });
                let (task_panels, rest) = panels.split_at(count.count().max(1));
                tasks.push(Task {
                    lhs: &self.lhs,
                    row_tiles: row_tiles.clone(),
                    panels: task_panels,
                });
                panels = rest;
            }
        }
    }
}

/// Some row tiles by some panels.
struct Task<'a, W> {
    lhs: &'a LhsPanels,
    row_tiles: Range<usize>,
    panels: &'a [OutputPanel<'a, W>],
}

/// The accumulators of one register tile.
type RegisterTile = [NrVector; MR];

impl<W: PackedRhs> IsaKernel for &Task<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let mut acc = vec![[[0.0; NR]; MR]; self.row_tiles.len()];
        let gated = self.panels.iter().any(|panel| panel.up.is_some());
        let mut up_acc = vec![[[0.0; NR]; MR]; if gated { self.row_tiles.len() } else { 0 }];
        // Weights that are not f32 are widened once for all row tiles if there are several, or if the rhs type has no
        // micro-kernel for this many rows.
        let too_many = |tile| !W::FULL_MR && self.lhs.tile_rows(tile) > SMALL_MR;
        let widened =
            !W::IS_F32 && (self.row_tiles.len() > 1 || self.row_tiles.clone().any(too_many));
        let mut wide = vec![[0.0; NR]; if widened { KC } else { 0 }];
        for panel in self.panels {
            self.multiply::<I>(panel.weights, &mut wide, &mut acc);
            if let Some((weights, _)) = panel.up {
                self.multiply::<I>(weights, &mut wide, &mut up_acc);
            }
            for (index, tile) in self.row_tiles.clone().enumerate() {
                let first = tile * MR;
                for row in 0..self.lhs.tile_rows(tile) {
                    let mut values = acc[index][row];
                    add(&mut values, panel.bias);
                    if let Some((_, bias)) = panel.up {
                        let mut up = up_acc[index][row];
                        add(&mut up, bias);
                        silu_mul::<I>(&mut values, &up);
                    }
                    if let Some(residual) = panel.residual {
                        add(&mut values, &residual.row(first + row)[panel.columns.clone()]);
                    }
                    let live = &values[..panel.columns.len()];
                    // SAFETY: only this task has these rows of this panel, and only this panel has these columns.
                    unsafe { panel.out.write(first + row, panel.columns.start, live) };
                }
            }
        }
    }
}

impl<W: PackedRhs> Task<'_, W> {
    /// Sets `acc` to the product of the task's rows with one panel.
    #[inline(always)]
    fn multiply<I: Isa>(&self, panel: &[W], wide: &mut [NrVector], acc: &mut [RegisterTile]) {
        for (tile, acc) in self.row_tiles.clone().zip(&mut *acc) {
            acc[..self.lhs.tile_rows(tile)].fill([0.0; NR]);
        }
        for (depth_panel, rhs) in panel.chunks(KC / W::DEPTH).enumerate() {
            if wide.is_empty() {
                self.add_depth_panel::<I, W>(depth_panel, rhs, acc);
            } else {
                let wide = &mut wide[..rhs.len() * W::DEPTH];
                I::widen(rhs, wide);
                self.add_depth_panel::<I, NrVector>(depth_panel, wide, acc);
            }
        }
    }

    /// Adds the products of the inputs from `depth_panel * KC` on.
    #[inline(always)]
    fn add_depth_panel<I: Isa, R: PackedRhs>(
        &self,
        depth_panel: usize,
        rhs: &[R],
        acc: &mut [RegisterTile],
    ) {
        for (tile, acc) in self.row_tiles.clone().zip(acc) {
            let lhs = self.lhs.micro_panel(tile, depth_panel);
            I::micro_kernel(lhs, rhs, &mut acc[..lhs.len()]);
        }
    }
}

#[inline(always)]
fn add(values: &mut NrVector, addends: &[f32]) {
    for (value, addend) in values.iter_mut().zip(addends) {
        *value += addend;
    }
}

/// gate = silu(gate) * up.
#[inline(always)]
fn silu_mul<I: Isa>(gate: &mut NrVector, up: &NrVector) {
    for (gate, &up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp::<I>(-*gate)) * up;
    }
}
