//! The macro-kernel: a task runs the micro-kernel or the tile kernel over some rows and panels, with the epilogue (bias,
//! SwiGLU, residual) fused.

use std::cell::Cell;
use std::ops::Range;

use super::lhs::{Lhs, LhsPanels};
use super::output::OutputMatrix;
use super::tasks::{split, Task};
#[cfg(target_arch = "x86_64")]
use super::tile_kernel::TileProduct;
use super::{NrVector, PackedRhs, KC, MR, NR, SMALL_MR};
use crate::cpu::arch::{self, prefetch_l1, Isa, IsaKernel};
use crate::cpu::exp::exp;
use crate::cpu::{thread_pool, TensorRows};

/// Panels of outputs that share the reading of a larger lhs: they are multiplied with one block of its depth in turn.
const PANELS_AT_A_TIME: usize = 8;

/// Rows of which the outputs are written at a time, while the sums of the next ones are prefetched.
const ROWS_AT_A_TIME: usize = 4;

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
    pub(super) fn weight_count(&self) -> usize {
        self.weights.len() * W::DEPTH * NR * (1 + usize::from(self.up.is_some()))
    }
}

/// A product of one lhs with several panels.
pub(crate) struct Gemm<'a, W> {
    pub lhs: Lhs,
    /// No two panels, in this or another product of a call, share a column of an `out`.
    pub panels: Vec<OutputPanel<'a, W>>,
}

/// Computes all products.
pub(crate) fn gemm<W: PackedRhs + Sync>(products: &[Gemm<W>]) {
    let mut tasks = Vec::new();
    for product in products {
        split(product, &mut tasks);
    }
    thread_pool::for_each(tasks.len(), |index| arch::run(&tasks[index]));
}

impl<W: PackedRhs> IsaKernel for &Task<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let rows = self.rows.len();
        let mut product = match self.lhs {
            Lhs::Panels(lhs) => {
                // Weights that are not f32 are widened once for all row tiles if there are several, or if the rhs type
                // has no micro-kernel for this many rows.
                let widened = !W::IS_F32 && (rows > MR || !W::FULL_MR && rows > SMALL_MR);
                Product::Panels(lhs, vec![[0.0; NR]; if widened { KC } else { 0 }])
            }
            #[cfg(target_arch = "x86_64")]
            Lhs::Split(lhs) => Product::Tiles(TileProduct::new(lhs, self.rows.clone())),
        };
        // Packed panels per panel of outputs.
        let packed = 1 + usize::from(self.panels.iter().any(|panel| panel.up.is_some()));
        let together = match &product {
            Product::Panels(..) if self.lhs.stays_in_cache(rows) => 1,
            Product::Panels(..) => PANELS_AT_A_TIME,
            #[cfg(target_arch = "x86_64")]
            Product::Tiles(tiles) => (tiles.panels_at_a_time::<W>() / packed).max(1),
        };
        let together = together.min(self.panels.len());
        let mut acc = Accumulators::new(packed * together * rows);
        // The weights of the panels, in order; of a gated layer the gate and up panels in turn.
        let mut weights = Vec::with_capacity(packed * together);
        for panels in self.panels.chunks(together) {
            weights.clear();
            for panel in panels {
                weights.push(panel.weights);
                weights.extend(panel.up.map(|(weights, _)| weights));
            }
            let acc = &mut acc.rows()[..weights.len() * rows];
            match &mut product {
                Product::Panels(lhs, wide) => self.multiply::<I>(lhs, &weights, wide, acc),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: rows are split only if `multiplies_bf16`, which checks what `multiply` requires.
                Product::Tiles(tiles) => unsafe { tiles.multiply(&weights, acc) },
            }
            self.write::<I>(panels, acc);
        }
    }
}

/// How a task multiplies, with the buffers for it.
enum Product<'a> {
    /// By the micro-kernel. The buffer is for a widened part of a panel; empty if weights are used as they are.
    Panels(&'a LhsPanels, Vec<NrVector>),
    /// As bf16 numbers, by AMX or AVX512-BF16.
    #[cfg(target_arch = "x86_64")]
    Tiles(TileProduct<'a>),
}

impl<W: PackedRhs> Task<'_, W> {
    /// The epilogue of some panels: `acc` has the sums of all rows of their first weights, then those of the next. A few
    /// rows at a time, because the outputs of neighbouring panels are neighbours in memory.
    #[inline(always)]
    fn write<I: Isa>(&self, panels: &[OutputPanel<W>], acc: &[NrVector]) {
        let rows = self.rows.len();
        for first in (0..rows).step_by(ROWS_AT_A_TIME) {
            let now = first..rows.min(first + ROWS_AT_A_TIME);
            let next = now.end..rows.min(now.end + ROWS_AT_A_TIME);
            let mut acc = acc.chunks_exact(rows);
            for panel in panels {
                let sums = acc.next().expect("sums of every panel");
                let up = panel.up.map(|(_, bias)| (acc.next().expect("sums of every panel"), bias));
                prefetch_l1(&sums[next.clone()]);
                if let Some((sums, _)) = up {
                    prefetch_l1(&sums[next.clone()]);
                }
                for row in next.clone().map(|row| self.rows.start + row) {
                    if let Some(residual) = panel.residual {
                        prefetch_l1(&residual.row(row)[panel.columns.clone()]);
                    }
                    panel.out.prefetch(row, panel.columns.clone());
                }
                for index in now.clone() {
                    let row = self.rows.start + index;
                    let mut values = sums[index];
                    add(&mut values, panel.bias);
                    if let Some((sums, bias)) = up {
                        let mut up = sums[index];
                        add(&mut up, bias);
                        silu_mul::<I>(&mut values, &up);
                    }
                    if let Some(residual) = panel.residual {
                        add(&mut values, &residual.row(row)[panel.columns.clone()]);
                    }
                    let live = &values[..panel.columns.len()];
                    // SAFETY: only this task has these rows of this panel, and only this panel has these columns.
                    unsafe { panel.out.write(row, panel.columns.start, live) };
                }
            }
        }
    }

    /// Sets `acc` to the products with some panels, by the micro-kernel: all rows of the first panel, then those of the
    /// next. Panels are widened first if `wide` is not empty.
    #[inline(always)]
    fn multiply<I: Isa>(
        &self,
        lhs: &LhsPanels,
        panels: &[&[W]],
        wide: &mut [NrVector],
        acc: &mut [NrVector],
    ) {
        acc.fill([0.0; NR]);
        for depth_panel in 0..depth_blocks(panels, KC) {
            for (panel, acc) in panels.iter().zip(acc.chunks_exact_mut(self.rows.len())) {
                let rhs = depth_block(panel, depth_panel, KC);
                if wide.is_empty() {
                    self.add_depth_panel::<I, W>(lhs, depth_panel, rhs, acc);
                } else {
                    let wide = &mut wide[..rhs.len() * W::DEPTH];
                    I::widen(rhs, wide);
                    self.add_depth_panel::<I, NrVector>(lhs, depth_panel, wide, acc);
                }
            }
        }
    }

    /// Adds the products of the inputs from `depth_panel * KC` on.
    #[inline(always)]
    fn add_depth_panel<I: Isa, R: PackedRhs>(
        &self,
        lhs: &LhsPanels,
        depth_panel: usize,
        rhs: &[R],
        acc: &mut [NrVector],
    ) {
        for (tile, acc) in (self.rows.start / MR..).zip(acc.chunks_mut(MR)) {
            I::micro_kernel(lhs.micro_panel(tile, depth_panel), rhs, acc);
        }
    }
}

/// The number of blocks of `depth` inputs in the deepest panel.
#[inline(always)]
pub(super) fn depth_blocks<W: PackedRhs>(panels: &[&[W]], depth: usize) -> usize {
    panels.iter().map(|panel| (panel.len() * W::DEPTH).div_ceil(depth)).max().unwrap_or(0)
}

/// The inputs of a panel from `index * depth` on, at most `depth`; none if the panel is not that deep.
#[inline(always)]
pub(super) fn depth_block<W: PackedRhs>(panel: &[W], index: usize, depth: usize) -> &[W] {
    let len = depth / W::DEPTH;
    let start = panel.len().min(index * len);
    &panel[start..panel.len().min(start + len)]
}

thread_local! {
    /// The memory of the [`Accumulators`] of the last task of this thread. New memory for every task would have to be
    /// zeroed, which took 3 % of a prompt's time.
    static ACCUMULATORS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Accumulators of a task, aligned to cache lines. Their values are arbitrary at first.
struct Accumulators {
    data: Vec<f32>,
    start: usize,
}

impl Accumulators {
    const LINE: usize = 64;

    fn new(rows: usize) -> Self {
        let mut data = ACCUMULATORS.take();
        let len = rows * NR + Self::LINE / size_of::<f32>();
        if data.len() < len {
            data = vec![0.0; len];
        }
        let start = data.as_ptr().align_offset(Self::LINE);
        Self { data, start }
    }

    #[inline(always)]
    fn rows(&mut self) -> &mut [NrVector] {
        self.data[self.start..].as_chunks_mut().0
    }
}

impl Drop for Accumulators {
    fn drop(&mut self) {
        ACCUMULATORS.set(std::mem::take(&mut self.data));
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
