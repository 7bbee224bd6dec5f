//! The products of a task on AMX.

use std::ops::Range;

use super::macro_kernel::{depth_block, depth_blocks, AlignedRows};
use super::rhs::PackedFloats;
use super::split_lhs::{SplitLhs, FEW_ROWS, SPLIT_KC, SPLIT_TILE_ROWS};
use super::{Bf16Pairs, NrVector, PackedRhs, TileOperand, NR, TILE_DEPTH, TILE_PAIRS};
use crate::cpu::arch::amx::Tiles;
use crate::cpu::arch::group_products::{add_scaled, product_of_few_rows, widen_numbers};
use crate::cpu::arch::prefetch_at;

/// Depth tiles of a block of [`SPLIT_KC`] inputs, and their pairs.
const TILES_PER_BLOCK: usize = SPLIT_KC / TILE_DEPTH;
const BLOCK_PAIRS: usize = TILES_PER_BLOCK * TILE_PAIRS;

/// Some rows of a split lhs, from a multiple of [`SPLIT_TILE_ROWS`] on.
pub(super) struct TileProduct<'a> {
    lhs: &'a SplitLhs,
    rows: Range<usize>,
    /// The numbers of quantized panels in a block of [`SPLIT_KC`] inputs.
    numbers: Vec<Bf16Pairs>,
    /// The products of one row tile with the numbers of one group.
    products: AlignedRows,
}

impl<'a> TileProduct<'a> {
    /// For up to `max_panels` panels at a time, of type `W`.
    #[inline(always)]
    pub(super) fn new<W: PackedRhs>(
        lhs: &'a SplitLhs,
        rows: Range<usize>,
        max_panels: usize,
    ) -> Self {
        let is_quantized = matches!(W::TILE_OPERAND, TileOperand::Numbers { .. });
        let panels = if is_quantized { max_panels } else { 0 };
        Self {
            lhs,
            rows,
            numbers: vec![Bf16Pairs::zero(); panels * BLOCK_PAIRS],
            products: AlignedRows::new(if is_quantized { SPLIT_TILE_ROWS } else { 0 }),
        }
    }

    /// Adds the products with some panels. `acc` has all rows of the first panel, then those of the next.
    ///
    /// Not inlined: it would be compiled once more for every instruction set of the task. It has those that come with
    /// AMX itself, and all that it calls is inlined.
    ///
    /// # Safety
    /// The processor must have the instructions, as it has if it has AMX.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx2,fma,f16c")]
    pub(super) unsafe fn add<W: PackedRhs>(&mut self, panels: &[&[W]], acc: &mut [NrVector]) {
        match W::TILE_OPERAND {
            TileOperand::None => {
                unreachable!("an lhs is split only for weights that AMX multiplies")
            }
            TileOperand::Weights => self.add_weights(panels, acc),
            TileOperand::Numbers { .. } if self.lhs.rows() <= FEW_ROWS => {
                self.add_numbers_of_few_rows(panels, acc);
            }
            TileOperand::Numbers { .. } => self.add_numbers(panels, acc),
        }
    }

    #[inline(always)]
    fn add_weights<W: PackedRhs>(&self, panels: &[&[W]], acc: &mut [NrVector]) {
        let rows = self.rows.len();
        let first_tile = self.rows.start / SPLIT_TILE_ROWS;
        // A single panel is multiplied in one go: there is no other for which a part of the lhs could stay in the cache.
        let depth = if panels.len() > 1 { SPLIT_KC } else { panels[0].len().max(1) * W::DEPTH };
        // SAFETY: an lhs is split only if AMX is available, and no other `Tiles` live in this thread.
        let mut registers = unsafe { Tiles::new() };
        for (tiles, tile_rows) in row_tiles(rows) {
            let registers = registers.of_rows(tile_rows);
            for block in 0..depth_blocks(panels, depth) {
                for tile in tiles.clone() {
                    let lhs = self.lhs.tile(first_tile + tile, block * depth);
                    for (index, acc) in acc.chunks_exact_mut(rows).enumerate() {
                        let rhs = |index: usize| W::pairs(depth_block(panels[index], block, depth));
                        let next = match panels.len() {
                            1 => rhs(0).as_ptr().wrapping_add(TILE_PAIRS),
                            count => rhs((index + 1) % count).as_ptr(),
                        };
                        let acc = &mut acc[tile * SPLIT_TILE_ROWS..][..tile_rows];
                        registers.add_product(lhs, rhs(index), next, acc);
                    }
                }
            }
        }
    }

    /// [`Self::add`] for up to [`FEW_ROWS`] rows, without AMX but with the same results.
    #[inline(always)]
    fn add_numbers_of_few_rows<W: PackedRhs>(&self, panels: &[&[W]], acc: &mut [NrVector]) {
        assert_eq!(W::GROUP, TILE_DEPTH);
        let rows = self.rows.len();
        let mut products = [[0.0; NR]; FEW_ROWS];
        let products = &mut products[..rows];
        for (panel, acc) in panels.iter().zip(acc.chunks_exact_mut(rows)) {
            for (index, rhs) in panel.iter().enumerate() {
                if W::PREFETCH_DISTANCE > 0 {
                    prefetch_at(rhs, W::PREFETCH_DISTANCE);
                }
                for tile in 0..W::DEPTH / TILE_DEPTH {
                    let depth = index * W::DEPTH + tile * TILE_DEPTH;
                    let (lhs, sums) = (self.lhs.wide(depth), self.lhs.sums(0, depth));
                    // SAFETY: AMX is available only with AVX-512; the tile is within the element.
                    unsafe {
                        product_of_few_rows(lhs, rhs, tile, products);
                        add_scaled(rhs, tile, products, sums, acc);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn add_numbers<W: PackedRhs>(&mut self, panels: &[&[W]], acc: &mut [NrVector]) {
        assert_eq!(W::GROUP, TILE_DEPTH);
        let rows = self.rows.len();
        let first_tile = self.rows.start / SPLIT_TILE_ROWS;
        let numbers = &mut self.numbers[..panels.len() * BLOCK_PAIRS];
        // SAFETY: an lhs is split only if AMX is available, and no other `Tiles` live in this thread.
        let mut registers = unsafe { Tiles::new() };
        for block in 0..depth_blocks(panels, SPLIT_KC) {
            for (panel, to) in panels.iter().zip(numbers.chunks_exact_mut(BLOCK_PAIRS)) {
                widen_block(panel, block, to);
            }
            for (tiles, tile_rows) in row_tiles(rows) {
                let registers = registers.of_rows(tile_rows);
                let products = &mut self.products.rows()[..tile_rows];
                for row_tile in tiles {
                    let lhs_tile = first_tile + row_tile;
                    let numbers = numbers.chunks_exact(BLOCK_PAIRS);
                    let panels = panels.iter().zip(numbers).zip(acc.chunks_exact_mut(rows));
                    for ((panel, numbers), acc) in panels {
                        let acc = &mut acc[row_tile * SPLIT_TILE_ROWS..][..tile_rows];
                        let numbers = numbers.chunks_exact(TILE_PAIRS);
                        for ((tile, rhs, part), numbers) in block_tiles(panel, block).zip(numbers) {
                            let depth = tile * TILE_DEPTH;
                            let sums = self.lhs.sums(lhs_tile, depth);
                            registers.product(self.lhs.tile(lhs_tile, depth), numbers, products);
                            // SAFETY: AMX is available only with AVX-512; the tile is within the element.
                            unsafe { add_scaled(rhs, part, products, sums, acc) };
                        }
                    }
                }
            }
        }
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

/// The depth tiles of a panel in a block of [`SPLIT_KC`] inputs: their index in the panel, their element, and their index in
/// the element.
#[inline(always)]
fn block_tiles<W: PackedRhs>(
    panel: &[W],
    block: usize,
) -> impl Iterator<Item = (usize, &W, usize)> {
    let per_element = W::DEPTH / TILE_DEPTH;
    let end = (panel.len() * per_element).min((block + 1) * TILES_PER_BLOCK);
    (block * TILES_PER_BLOCK..end)
        .map(move |tile| (tile, &panel[tile / per_element], tile % per_element))
}

/// Converts the numbers of a panel in a block of [`SPLIT_KC`] inputs.
#[inline(always)]
fn widen_block<W: PackedRhs>(panel: &[W], block: usize, to: &mut [Bf16Pairs]) {
    for ((_, rhs, part), to) in block_tiles(panel, block).zip(to.chunks_exact_mut(TILE_PAIRS)) {
        if W::PREFETCH_DISTANCE > 0 {
            prefetch_at(rhs, W::PREFETCH_DISTANCE);
        }
        // SAFETY: an lhs is split only if AMX is available, and with it AVX-512; the tile is within the element.
        unsafe { widen_numbers(rhs, part, to) };
    }
}
