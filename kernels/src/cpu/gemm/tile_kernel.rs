//! The products of a task with an lhs of bf16 numbers, on AMX or AVX512-BF16.

use std::cell::Cell;
use std::ops::Range;

use super::macro_kernel::{depth_block, depth_blocks};
use super::numbers_block::{BlockKernel, BlockProduct, NumbersBlock, NumbersKernel, ProductTiles};
use super::split_lhs::{SplitLhs, TileRow, SPLIT_KC, SPLIT_TILE_ROWS, TILES_PER_BLOCK, TILE_ROWS};
use super::{Bf16Pairs, NrVector, PackedRhs, TileOperand, NR, TILE_DEPTH, TILE_PAIRS};
use crate::cpu::arch::amx::{self, ProductTile, Tiles};
use crate::cpu::arch::avx512_bf16::PairProducts;
use crate::cpu::arch::prefetch_at;
use crate::MatmulPrecision;

/// The most packed panels that share a block of the split lhs: they are multiplied with it in turn, and their accumulators
/// take half of the L2 cache, which is 2 MiB on processors with AMX and 1 MiB on most others. A gated layer has two per panel
/// of outputs.
fn max_panels() -> usize {
    if amx::is_available() {
        28
    } else {
        14
    }
}

thread_local! {
    /// The [`TileBuffers`] of this thread's last task, reused because new ones would have to be zeroed.
    static BUFFERS: Cell<TileBuffers> = Cell::default();
}

/// Buffers for products. Their values are arbitrary at first.
#[derive(Default)]
struct TileBuffers {
    /// Of each quantized panel.
    blocks: Vec<NumbersBlock>,
    /// Two sets of products with quantized weights: those being computed, and the previous ones, which are being added to
    /// the accumulators.
    products: Vec<[ProductTiles; 2]>,
}

impl TileBuffers {
    /// Makes room for some quantized panels.
    fn reserve(&mut self, panels: usize) {
        if self.blocks.len() < panels {
            self.blocks.resize_with(panels, NumbersBlock::new);
            self.products = vec![[[ProductTile::ZERO; TILES_PER_BLOCK]; 2]];
        }
    }
}

/// What multiplies the bf16 numbers of a row tile with bf16 weights.
pub(crate) trait RowTileKernel {
    /// `acc[row][column] += lhs[row][depth] * rhs[depth][column]` for the rows of a row tile. `lhs` starts with the tile
    /// rows of the first depth of `rhs`, and has `TERMS` terms. May prefetch as many pairs from `next` on, an address that
    /// may be invalid.
    ///
    /// # Panics
    /// If `acc` has no rows or more than [`SPLIT_TILE_ROWS`], `lhs` is shorter than `rhs` is deep, or `rhs` is not a
    /// multiple of [`TILE_DEPTH`] deep.
    fn add_product<const TERMS: usize>(
        &mut self,
        lhs: &[TileRow],
        rhs: &[Bf16Pairs],
        next: *const Bf16Pairs,
        acc: &mut [NrVector],
    );
}

/// Some rows of an lhs, from a multiple of [`SPLIT_TILE_ROWS`] on.
pub(super) struct TileProduct<'a> {
    lhs: &'a SplitLhs,
    rows: Range<usize>,
    buffers: TileBuffers,
}

impl<'a> TileProduct<'a> {
    pub(super) fn new(lhs: &'a SplitLhs, rows: Range<usize>) -> Self {
        Self { lhs, rows, buffers: BUFFERS.take() }
    }

    /// How many packed panels [`Self::multiply`] is best called with.
    pub(super) fn panels_at_a_time<W: PackedRhs>(&self) -> usize {
        let rows = self.rows.len();
        // A small lhs stays in the L2 cache for the next panel anyway. Quantized panels with more rows than one register of AMX
        // holds are faster together: AMX multiplies each while the products of the previous one are scaled.
        let is_alone = W::TILE_OPERAND == TileOperand::Weights || rows <= TILE_ROWS;
        if self.lhs.stays_in_cache(rows) && is_alone {
            1
        } else {
            max_panels()
        }
    }

    /// Sets `acc` to the products with some panels: all rows of the first panel, then those of the next.
    ///
    /// Not inlined: it would be compiled once more for every instruction set of the task. The features are among those
    /// that `amx::is_available` and `avx512_bf16::is_available` check; what it calls is inlined or enables them itself.
    ///
    /// # Safety
    /// `amx::is_available` or, for an lhs of one term, `avx512_bf16::is_available` must be true.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx2,fma,f16c")]
    pub(super) unsafe fn multiply<W: PackedRhs>(&mut self, panels: &[&[W]], acc: &mut [NrVector]) {
        // SAFETY: the caller guarantees the instructions. No other `Tiles` live in this thread.
        unsafe {
            match self.lhs.precision() {
                MatmulPrecision::F32 => {
                    const TERMS: usize = MatmulPrecision::F32.terms();
                    self.multiply_by::<_, W, TERMS>(&mut Tiles::new(), panels, acc);
                }
                MatmulPrecision::Bf16 => {
                    const TERMS: usize = MatmulPrecision::Bf16.terms();
                    if amx::is_available() {
                        self.multiply_by::<_, W, TERMS>(&mut Tiles::new(), panels, acc);
                    } else {
                        self.multiply_by::<_, W, TERMS>(&mut PairProducts::new(), panels, acc);
                    }
                }
            }
        }
    }

    /// [`Self::multiply`] by one of the kernels, with an lhs of `TERMS` terms.
    #[inline(always)]
    fn multiply_by<K: RowTileKernel + NumbersKernel, W: PackedRhs, const TERMS: usize>(
        &mut self,
        kernel: &mut K,
        panels: &[&[W]],
        acc: &mut [NrVector],
    ) {
        match W::TILE_OPERAND {
            TileOperand::None => {
                unreachable!("an lhs is split only for weights that are multiplied as bf16")
            }
            TileOperand::Weights => self.multiply_weights::<W, TERMS>(kernel, panels, acc),
            TileOperand::Numbers { .. } if self.lhs.rows() <= K::FEW_ROWS => {
                self.multiply_numbers_by_few_rows(kernel, panels, acc);
            }
            TileOperand::Numbers { .. } => {
                self.multiply_numbers::<W, TERMS>(kernel, panels, acc);
            }
        }
    }

    /// [`Self::multiply`] for bf16 weights, block by block.
    #[inline(always)]
    fn multiply_weights<W: PackedRhs, const TERMS: usize>(
        &mut self,
        kernel: &mut impl RowTileKernel,
        panels: &[&[W]],
        acc: &mut [NrVector],
    ) {
        assert!(W::TILE_OPERAND == TileOperand::Weights);
        let rows = self.rows.len();
        // A block of the lhs stays in the L1 cache for the next panel. A single panel needs no blocks, nor does an lhs that
        // stays in the L2 cache.
        let depth = if panels.len() == 1 || self.lhs.stays_in_cache(rows) {
            panels.iter().map(|panel| panel.len() * W::DEPTH).max().unwrap_or(0).max(SPLIT_KC)
        } else {
            SPLIT_KC
        };
        // Faster than to store the first products without loading sums.
        acc.fill([0.0; NR]);
        let together = max_panels();
        for (panels, acc) in panels.chunks(together).zip(acc.chunks_mut(together * rows)) {
            for block in 0..depth_blocks(panels, depth).max(1) {
                self.add_weights::<W, TERMS>(kernel, panels, block, depth, acc);
            }
        }
    }

    /// [`Self::multiply`] for quantized weights, block by block.
    #[inline(always)]
    fn multiply_numbers<W: PackedRhs, const TERMS: usize>(
        &mut self,
        kernel: &mut impl NumbersKernel,
        panels: &[&[W]],
        acc: &mut [NrVector],
    ) {
        let (rows, together) = (self.rows.len(), max_panels());
        self.buffers.reserve(panels.len().min(together));
        for (panels, acc) in panels.chunks(together).zip(acc.chunks_mut(together * rows)) {
            for block in 0..depth_blocks(panels, SPLIT_KC).max(1) {
                self.add_numbers::<W, TERMS>(kernel, panels, block, acc);
            }
        }
    }

    /// The first row tile of these rows.
    #[inline(always)]
    fn first_tile(&self) -> usize {
        self.rows.start / SPLIT_TILE_ROWS
    }

    /// Adds the products with a block of `depth` inputs of some panels.
    #[inline(always)]
    fn add_weights<W: PackedRhs, const TERMS: usize>(
        &self,
        kernel: &mut impl RowTileKernel,
        panels: &[&[W]],
        block: usize,
        depth: usize,
        acc: &mut [NrVector],
    ) {
        let rows = self.rows.len();
        for (tiles, tile_rows) in row_tiles(rows) {
            for tile in tiles {
                let lhs = self.lhs.tile(self.first_tile() + tile, block * depth);
                for (index, acc) in acc.chunks_exact_mut(rows).enumerate() {
                    let rhs = |index: usize| W::pairs(depth_block(panels[index], block, depth));
                    let next = if depth > SPLIT_KC {
                        rhs(index).as_ptr().wrapping_add(TILE_PAIRS)
                    } else {
                        rhs((index + 1) % panels.len()).as_ptr()
                    };
                    let acc = &mut acc[tile * SPLIT_TILE_ROWS..][..tile_rows];
                    kernel.add_product::<TERMS>(lhs, rhs(index), next, acc);
                }
            }
        }
    }

    /// [`Self::multiply`] for quantized weights with an lhs of few rows.
    #[inline(always)]
    fn multiply_numbers_by_few_rows<W: PackedRhs>(
        &mut self,
        kernel: &mut impl NumbersKernel,
        panels: &[&[W]],
        acc: &mut [NrVector],
    ) {
        assert_eq!(W::GROUP, TILE_DEPTH);
        acc.fill([0.0; NR]);
        let rows = self.rows.len();
        for (panel, acc) in panels.iter().zip(acc.chunks_exact_mut(rows)) {
            for (index, rhs) in panel.iter().enumerate() {
                if W::PREFETCH_DISTANCE > 0 {
                    prefetch_at(rhs, W::PREFETCH_DISTANCE);
                }
                // SAFETY: every kernel requires AVX-512.
                unsafe { kernel.add_few_rows(self.lhs, index * W::DEPTH, rhs, acc) };
            }
        }
    }

    /// Adds the products with a block of some quantized panels, or sets `acc` to them if it is the first.
    #[inline(always)]
    fn add_numbers<W: PackedRhs, const TERMS: usize>(
        &mut self,
        kernel: &mut impl NumbersKernel,
        panels: &[&[W]],
        block: usize,
        acc: &mut [NrVector],
    ) {
        assert_eq!(W::GROUP, TILE_DEPTH);
        let buffers = panels.iter().zip(&mut self.buffers.blocks);
        for ((panel, to), acc) in buffers.zip(acc.chunks_exact_mut(self.rows.len())) {
            // SAFETY: every kernel requires AVX-512, AVX2, FMA and F16C.
            unsafe { to.widen(panel, block) };
            if block == 0 && to.depth_tiles == 0 {
                acc.fill([0.0; NR]);
            }
        }
        // SAFETY: as above.
        unsafe { self.add_blocks::<TERMS>(kernel, panels.len(), block, acc) };
    }

    /// Adds the products with block `block` of `panels` panels, which have been widened, or sets `acc` to them if it is the
    /// first.
    ///
    /// # Safety
    /// The processor must have AVX-512.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx2,fma")]
    unsafe fn add_blocks<const TERMS: usize>(
        &mut self,
        kernel: &mut impl NumbersKernel,
        panels: usize,
        block: usize,
        acc: &mut [NrVector],
    ) {
        let rows = self.rows.len();
        let (is_first, depth, first_tile) = (block == 0, block * SPLIT_KC, self.first_tile());
        let TileBuffers { blocks, products } = &mut self.buffers;
        let mut kernel = kernel.begin_blocks(&mut products[0], acc);
        for (tiles, tile_rows) in row_tiles(rows) {
            for tile in tiles {
                let lhs = self.lhs.tile(first_tile + tile, depth);
                let sums = self.lhs.sums(first_tile + tile, depth);
                for (index, block) in blocks[..panels].iter().enumerate() {
                    if block.depth_tiles > 0 {
                        let acc_start = index * rows + tile * SPLIT_TILE_ROWS;
                        let product =
                            BlockProduct { block, lhs, sums, tile_rows, acc_start, is_first };
                        kernel.multiply::<TERMS>(product);
                    }
                }
            }
        }
        kernel.finish();
    }
}

impl Drop for TileProduct<'_> {
    fn drop(&mut self) {
        BUFFERS.set(std::mem::take(&mut self.buffers));
    }
}

/// The row tiles of full height of `rows` rows and, if it is lower, the last one: another configuration of the registers.
#[inline(always)]
fn row_tiles(rows: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
    let full = rows / SPLIT_TILE_ROWS;
    let last = rows - full * SPLIT_TILE_ROWS;
    let both = [(0..full, SPLIT_TILE_ROWS), (full..full + 1, last)];
    both.into_iter().filter(|(tiles, rows)| !tiles.is_empty() && *rows > 0)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::cpu::arch::avx512_bf16::has_instructions;
    use crate::cpu::gemm::rhs::RhsPanels;
    use crate::cpu::quant::{Quantized, Q4_1, Q8_0};
    use crate::cpu::TensorRows;
    use crate::ChainRows;

    /// Not a whole number of blocks of [`SPLIT_KC`].
    const INPUTS: usize = 160;
    const OUTPUTS: usize = 3 * NR;

    fn matrix(rows: usize, columns: usize) -> Tensor {
        let number = |index: usize| ((index * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
        let numbers: Vec<f32> = (0..rows * columns).map(number).collect();
        Tensor::from_vec(numbers, (rows, columns), &Device::Cpu).unwrap()
    }

    /// The products of AVX512-BF16 with the rows of `x`: panel by panel, as blocks of widened numbers if `in_blocks`.
    fn products<W: Quantized>(x: &Tensor, panels: &[&[W]], in_blocks: bool) -> Vec<NrVector> {
        let (storage, layout) = x.storage_and_layout();
        let x = [TensorRows::new(&storage, layout).unwrap()];
        let rows = layout.dims()[0];
        let (chain_rows, operand) = (ChainRows::same(1, rows), W::TILE_OPERAND);
        let lhs = SplitLhs::split(&x, &chain_rows, 0, MatmulPrecision::Bf16, operand);
        let mut product = TileProduct::new(&lhs, 0..rows);
        let mut acc = vec![[f32::NAN; NR]; panels.len() * rows];
        // SAFETY: the test checks the processor first.
        let kernel = unsafe { &mut PairProducts::new() };
        if in_blocks {
            product.multiply_numbers::<W, 1>(kernel, panels, &mut acc);
        } else {
            product.multiply_numbers_by_few_rows(kernel, panels, &mut acc);
        }
        acc
    }

    fn check<W: Quantized>() {
        let weights = RhsPanels::<W>::quantize(&matrix(OUTPUTS, INPUTS)).unwrap();
        let panels: Vec<&[W]> = weights.iter().collect();
        let x = matrix(45, INPUTS);
        let alone: Vec<Vec<NrVector>> =
            (0..45).map(|row| products(&x.narrow(0, row, 1).unwrap(), &panels, false)).collect();
        for rows in [1, 2, 7, 8, 9, 31, 32, 33, 45] {
            let some = x.narrow(0, 0, rows).unwrap();
            let ways = if rows <= PairProducts::FEW_ROWS { &[true, false][..] } else { &[true] };
            for &in_blocks in ways {
                let found = products(&some, &panels, in_blocks);
                for (index, found) in found.iter().enumerate() {
                    let (panel, row) = (index / rows, index % rows);
                    assert_eq!(*found, alone[row][panel], "row {row} of {rows}, panel {panel}");
                }
            }
        }
    }

    /// On AVX512-BF16, also where AMX would be used.
    #[test]
    fn a_row_has_the_same_products_alone_and_in_blocks() {
        if has_instructions() {
            check::<Q8_0>();
            check::<Q4_1>();
        }
    }
}
