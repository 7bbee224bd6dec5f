//! The macro-kernel: products are split into tasks, and a task runs the micro-kernel over up to [`MC`] rows and some
//! panels, with the epilogue (bias, SwiGLU, residual) fused.

use std::cell::Cell;
use std::ops::Range;

use super::lhs::{Lhs, LhsPanels};
use super::output::OutputMatrix;
#[cfg(target_arch = "x86_64")]
use super::tile_kernel::{TileProduct, TILE_PANELS};
use super::{NrVector, PackedRhs, KC, MC, MR, NR, SMALL_MR};
use crate::cpu::arch::{self, Isa, IsaKernel};
use crate::cpu::exp::exp;
use crate::cpu::{thread_pool, TensorRows};

/// Tasks per thread. With several, a thread that is slower than the others takes fewer of them.
const TASKS_PER_THREAD: usize = 4;

/// The lhs of a task stays in the cache from panel to panel if it takes no more than this.
const CACHED_LHS_BYTES: usize = 256 << 10;

/// Panels of outputs that share the reading of a larger lhs: they are multiplied with one block of its depth in turn.
const PANELS_AT_A_TIME: usize = 8;

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
    pub lhs: Lhs,
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
        let row_blocks = self.lhs.rows().div_ceil(MC);
        let wanted = (TASKS_PER_THREAD * thread_pool::thread_count()).div_ceil(row_blocks.max(1));
        let rows = self.lhs.rows().min(MC);
        let worthwhile = weights * rows.div_ceil(8) / MIN_WEIGHTS_PER_TASK;
        let weights_per_task = weights.div_ceil(wanted.min(worthwhile).max(1));
        for row_block in 0..row_blocks {
            let first = row_block * MC;
            let rows = first..self.lhs.rows().min(first + MC);
            let mut panels = self.panels.as_slice();
            while !panels.is_empty() {
                let mut taken = 0;
                let count = panels.iter().take_while(|panel| {
                    let more = taken < weights_per_task;
                    taken += panel.weight_count();
                    more
                });
                let (task_panels, rest) = panels.split_at(count.count().max(1));
                tasks.push(Task { lhs: &self.lhs, rows: rows.clone(), panels: task_panels });
                panels = rest;
            }
        }
    }
}

/// Some rows by some panels.
struct Task<'a, W> {
    lhs: &'a Lhs,
    /// At most [`MC`], from a multiple of it on.
    rows: Range<usize>,
    panels: &'a [OutputPanel<'a, W>],
}

impl<W: PackedRhs> IsaKernel for &Task<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let rows = self.rows.len();
        let cached = rows * self.lhs.row_bytes() <= CACHED_LHS_BYTES;
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
            _ if cached => 1,
            Product::Panels(..) => PANELS_AT_A_TIME,
            #[cfg(target_arch = "x86_64")]
            Product::Tiles(_) => TILE_PANELS / packed,
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
    /// The epilogue of some panels: `acc` has the sums of all rows of their first weights, then those of the next. Row by
    /// row, because the outputs of neighbouring panels are neighbours in memory.
    #[inline(always)]
    fn write<I: Isa>(&self, panels: &[OutputPanel<W>], acc: &[NrVector]) {
        for (index, row) in self.rows.clone().enumerate() {
            let mut acc = acc.iter().skip(index).step_by(self.rows.len());
            for panel in panels {
                let mut values = *acc.next().expect("sums of every panel");
                add(&mut values, panel.bias);
                if let Some((_, bias)) = panel.up {
                    let mut up = *acc.next().expect("sums of every panel");
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
