//! Products of AMX with quantized weights: the integers of a group are multiplied by themselves, and then scaled.

use std::ops::Range;

use super::split_lhs::{TileRow, SPLIT_KC, TILE_ROWS};
use super::{NrVector, PackedRhs, TileOperand, NR, TILE_DEPTH, TILE_PAIRS};
use crate::cpu::arch::amx::{ProductTile, RhsTile, Tiles};
use crate::cpu::arch::group_products::{widen_numbers, widen_scales, Scaling};
use crate::cpu::arch::prefetch_at;

/// Depth tiles of a block of [`SPLIT_KC`] inputs.
pub(super) const TILES_PER_BLOCK: usize = SPLIT_KC / TILE_DEPTH;

/// The products of each depth tile of a block.
pub(super) type ProductTiles = [ProductTile; TILES_PER_BLOCK];

/// The products of a block of a quantized panel with the rows of one tile register and half of the columns. They are
/// added to the accumulators while the next ones are multiplied: neither AMX nor the other units wait.
pub(super) struct Products<'a> {
    pub block: &'a NumbersBlock,
    /// The half of the columns, 0 or 1.
    pub half: usize,
    /// The row tile, from the first input of the block on.
    pub lhs: &'a [TileRow],
    /// Sums of the inputs of the row tile per depth tile; empty without minima.
    pub sums: &'a [f32],
    /// The first row in the row tile.
    pub first_row: usize,
    /// Rows of the row tile.
    pub tile_rows: usize,
    /// Index of the accumulators of the row tile.
    pub acc_start: usize,
    /// Whether these are the first inputs: the accumulators have no sums yet.
    pub is_first: bool,
}

impl Products<'_> {
    /// Multiplies an lhs of `TERMS` terms to `to`, and adds earlier products to the accumulators.
    #[inline(always)]
    pub(super) fn multiply<const TERMS: usize>(
        &self,
        registers: &Tiles,
        to: &mut ProductTiles,
        earlier: Option<(&Self, &ProductTiles)>,
        acc: &mut [NrVector],
    ) {
        assert!(self.first_row < self.tile_rows && registers.rows() == self.tile_rows);
        assert!(self.lhs.len() >= self.block.depth_tiles * TERMS * self.tile_rows);
        let earlier = match earlier {
            Some((earlier, products)) if self.is_full() && earlier.is_full() => {
                let second = self.first_row > 0;
                match (second, earlier.block.has_mins) {
                    (false, false) => {
                        self.multiply_full::<TERMS, false, false>(
                            registers, to, earlier, products, acc,
                        );
                    }
                    (false, true) => {
                        self.multiply_full::<TERMS, false, true>(
                            registers, to, earlier, products, acc,
                        );
                    }
                    (true, false) => {
                        self.multiply_full::<TERMS, true, false>(
                            registers, to, earlier, products, acc,
                        );
                    }
                    (true, true) => {
                        self.multiply_full::<TERMS, true, true>(
                            registers, to, earlier, products, acc,
                        );
                    }
                }
                return;
            }
            earlier => earlier,
        };
        for (tile, to) in to[..self.block.depth_tiles].iter_mut().enumerate() {
            // SAFETY: the assertions above.
            unsafe {
                if self.first_row > 0 {
                    self.begin::<TERMS, true>(registers, tile);
                    registers.store_product::<true>(to);
                } else {
                    self.begin::<TERMS, false>(registers, tile);
                    registers.store_product::<false>(to);
                }
            }
        }
        if let Some((earlier, products)) = earlier {
            earlier.add(products, acc);
        }
    }

    /// Whether all depth tiles and rows are in use.
    #[inline(always)]
    fn is_full(&self) -> bool {
        self.block.depth_tiles == TILES_PER_BLOCK && self.acc().len() == TILE_ROWS
    }

    /// [`Self::multiply`], with full products before full ones. `SECOND` if the rows are those of the second register,
    /// `MIN` if the earlier ones have minima.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "5 % faster: a loop over constants is unrolled")]
    fn multiply_full<const TERMS: usize, const SECOND: bool, const MIN: bool>(
        &self,
        registers: &Tiles,
        to: &mut ProductTiles,
        earlier: &Self,
        products: &ProductTiles,
        acc: &mut [NrVector],
    ) {
        /// Rows that are added while a depth tile is multiplied.
        const ROWS: usize = TILE_ROWS / TILES_PER_BLOCK;
        let scaling = earlier.scaling();
        let acc = acc[earlier.acc()].as_mut_ptr();
        for tile in 0..TILES_PER_BLOCK {
            let rows = tile * ROWS..(tile + 1) * ROWS;
            // SAFETY: `multiply` has checked the lhs, `scaling` the sums, and `acc` has all rows of a register. AMX is
            // available only with AVX-512.
            unsafe {
                self.begin::<TERMS, SECOND>(registers, tile);
                scaling.add_rows::<TILES_PER_BLOCK, MIN>(products, 0, rows, acc);
                registers.store_product::<SECOND>(&mut to[tile]);
            }
        }
    }

    /// Begins the product of a depth tile.
    ///
    /// # Safety
    /// The assertions of [`Self::multiply`] must hold, and the depth tile must be below [`NumbersBlock::depth_tiles`].
    #[inline(always)]
    unsafe fn begin<const TERMS: usize, const SECOND: bool>(&self, registers: &Tiles, tile: usize) {
        // SAFETY: the caller upholds the contract above.
        unsafe {
            let lhs = self.lhs.as_ptr().add(tile * TERMS * self.tile_rows + self.first_row);
            registers.begin_product::<SECOND, TERMS>(lhs, &self.block.numbers[self.half][tile]);
        }
    }

    /// Indices of the accumulators.
    #[inline(always)]
    fn acc(&self) -> Range<usize> {
        let end = self.tile_rows.min(self.first_row + TILE_ROWS);
        self.acc_start + self.first_row..self.acc_start + end
    }

    /// # Panics
    /// If there are minima and not the sums of all rows and depth tiles.
    #[inline(always)]
    fn scaling(&self) -> Scaling<'_> {
        let all = self.block.depth_tiles * self.tile_rows;
        assert!(!self.block.has_mins || self.sums.len() >= all);
        Scaling {
            scales: &self.block.scales,
            mins: &self.block.mins,
            sums: self.sums.get(self.first_row..).unwrap_or_default(),
            stride: self.tile_rows,
            column: self.half * NR / 2,
            is_first: self.is_first,
        }
    }

    /// Adds the products to the accumulators.
    #[inline(always)]
    pub(super) fn add(&self, products: &ProductTiles, acc: &mut [NrVector]) {
        let scaling = self.scaling();
        let acc = &mut acc[self.acc()];
        let (rows, acc) = (0..acc.len(), acc.as_mut_ptr());
        for tile in 0..self.block.depth_tiles {
            // SAFETY: `scaling` has checked the sums, and `acc` has these rows. AMX is available only with AVX-512.
            unsafe {
                if self.block.has_mins {
                    scaling.add_rows::<1, true>(products, tile, rows.clone(), acc);
                } else {
                    scaling.add_rows::<1, false>(products, tile, rows.clone(), acc);
                }
            }
        }
    }
}

/// A block of [`SPLIT_KC`] inputs of a quantized panel, with its numbers in bf16.
#[repr(C, align(64))]
pub(super) struct NumbersBlock {
    /// Per half of the columns.
    numbers: [[RhsTile; TILES_PER_BLOCK]; 2],
    scales: [NrVector; TILES_PER_BLOCK],
    mins: [NrVector; TILES_PER_BLOCK],
    /// Depth tiles in use.
    depth_tiles: usize,
    has_mins: bool,
}

impl NumbersBlock {
    pub(super) fn new() -> Self {
        Self {
            numbers: [[[TileRow([0; TILE_DEPTH]); TILE_PAIRS]; TILES_PER_BLOCK]; 2],
            scales: [[0.0; NR]; TILES_PER_BLOCK],
            mins: [[0.0; NR]; TILES_PER_BLOCK],
            depth_tiles: 0,
            has_mins: false,
        }
    }

    /// Depth tiles in use: fewer at the end of the panel, 0 beyond it.
    pub(super) fn depth_tiles(&self) -> usize {
        self.depth_tiles
    }

    /// Reads block `block` of a panel.
    ///
    /// Not inlined, because the caller would take minutes to compile.
    ///
    /// # Safety
    /// `amx::is_available` must be true: the function uses AVX-512, AVX2, FMA and F16C.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx2,fma,f16c")]
    pub(super) unsafe fn widen<W: PackedRhs>(&mut self, panel: &[W], block: usize) {
        self.depth_tiles = 0;
        self.has_mins = W::TILE_OPERAND == TileOperand::Numbers { min: true };
        for (at, (rhs, part)) in block_tiles(panel, block).enumerate() {
            if W::PREFETCH_DISTANCE > 0 {
                prefetch_at(rhs, W::PREFETCH_DISTANCE);
            }
            let [lower, upper] = &mut self.numbers;
            // SAFETY: the caller guarantees AMX, and with it AVX-512; the tile is within the element.
            unsafe {
                widen_numbers(rhs, part, [&mut lower[at], &mut upper[at]]);
                widen_scales(rhs, part, &mut self.scales[at], &mut self.mins[at]);
            }
            self.depth_tiles += 1;
        }
    }
}

/// The depth tiles of a panel in a block of [`SPLIT_KC`] inputs: their element, and their index in the element.
#[inline(always)]
fn block_tiles<W: PackedRhs>(panel: &[W], block: usize) -> impl Iterator<Item = (&W, usize)> {
    let per_element = W::DEPTH / TILE_DEPTH;
    let end = (panel.len() * per_element).min((block + 1) * TILES_PER_BLOCK);
    (block * TILES_PER_BLOCK..end).map(move |tile| (&panel[tile / per_element], tile % per_element))
}
