//! Products with the integers of quantized weights ([`TileOperand::Numbers`]), block by block: what AMX and AVX512-BF16 have
//! in common.

use super::split_lhs::{SplitLhs, TileRow, SPLIT_TILE_ROWS, TILES_PER_BLOCK};
use super::{NrVector, PackedRhs, TileOperand, NR, TILE_DEPTH, TILE_PAIRS};
use crate::cpu::arch::amx::{ProductTile, RhsTile};
use crate::cpu::arch::avx512_bf16::WidenedNumbers;
use crate::cpu::arch::group_products::{widen_numbers, widen_scales};
use crate::cpu::arch::prefetch_at;

/// The products of each depth tile of a block.
pub(super) type ProductTiles = [ProductTile; TILES_PER_BLOCK];

/// What multiplies the integers of quantized weights.
pub(super) trait NumbersKernel {
    /// Up to this many rows are multiplied with the packed numbers: converting these to bf16 first would take longer.
    const FEW_ROWS: usize;

    /// Adds the products of a packed rhs element, with all rows of an lhs of up to [`Self::FEW_ROWS`]. The element has the
    /// inputs from `depth` on.
    ///
    /// # Safety
    /// The processor must have AVX-512.
    unsafe fn add_few_rows<W: PackedRhs>(
        &mut self,
        lhs: &SplitLhs,
        depth: usize,
        rhs: &W,
        acc: &mut [NrVector],
    );

    /// Begins to multiply blocks with row tiles. The results are the same as those of [`Self::add_few_rows`].
    fn begin_blocks<'a>(
        &'a mut self,
        products: &'a mut [ProductTiles; 2],
        acc: &'a mut [NrVector],
    ) -> impl BlockKernel<'a>;
}

/// Multiplies blocks one after the other.
pub(super) trait BlockKernel<'a> {
    /// Multiplies a block with a row tile of `TERMS` terms, and adds the products to the accumulators now or later.
    ///
    /// # Panics
    /// If the operands do not have the rows of the row tile, or the block has no depth tiles.
    fn multiply<const TERMS: usize>(&mut self, product: BlockProduct<'a>);

    /// Adds the products that are not yet added.
    fn finish(self);
}

/// A block of a quantized panel and a row tile of the lhs.
pub(super) struct BlockProduct<'a> {
    pub block: &'a NumbersBlock,
    /// The row tile, from the first input of the block on.
    pub lhs: &'a [TileRow],
    /// Sums of the inputs of the row tile per depth tile; empty without minima.
    pub sums: &'a [f32],
    /// Rows of the row tile.
    pub tile_rows: usize,
    /// Index of the accumulators of the row tile.
    pub acc_start: usize,
    /// Whether these are the first inputs: the accumulators have no sums yet.
    pub is_first: bool,
}

impl BlockProduct<'_> {
    /// # Panics
    /// If the operands are too short, or the block has no depth tiles.
    #[inline(always)]
    pub(super) fn check<const TERMS: usize>(&self, acc: &[NrVector]) {
        let all = self.block.depth_tiles * self.tile_rows;
        assert!(all > 0);
        assert!((1..=SPLIT_TILE_ROWS).contains(&self.tile_rows));
        assert!(self.lhs.len() >= TERMS * all);
        assert!(!self.block.has_mins || self.sums.len() >= all);
        assert!(acc.len() >= self.tile_rows && self.acc_start <= acc.len() - self.tile_rows);
    }
}

/// A block of a quantized panel, with its numbers in bf16.
#[repr(C, align(64))]
pub(super) struct NumbersBlock {
    /// Per half of the columns.
    pub numbers: [[RhsTile; TILES_PER_BLOCK]; 2],
    pub scales: [NrVector; TILES_PER_BLOCK],
    pub mins: [NrVector; TILES_PER_BLOCK],
    /// Depth tiles in use: fewer at the end of the panel, 0 beyond it.
    pub depth_tiles: usize,
    pub has_mins: bool,
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

    /// A depth tile in use.
    #[inline(always)]
    pub(super) fn depth_tile(&self, tile: usize) -> WidenedNumbers<'_> {
        let [lower, upper] = &self.numbers;
        let mins = if self.has_mins { Some(&self.mins[tile]) } else { None };
        WidenedNumbers { numbers: [&lower[tile], &upper[tile]], scales: &self.scales[tile], mins }
    }

    /// Reads block `block` of a panel.
    ///
    /// Not inlined, because the caller would take minutes to compile.
    ///
    /// # Safety
    /// The processor must have AVX-512, AVX2, FMA and F16C.
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
            // SAFETY: the caller guarantees AVX-512; the tile is within the element.
            unsafe {
                widen_numbers(rhs, part, [&mut lower[at], &mut upper[at]]);
                widen_scales(rhs, part, &mut self.scales[at], &mut self.mins[at]);
            }
            self.depth_tiles += 1;
        }
    }
}

/// The depth tiles of a panel in a block of [`SPLIT_KC`](super::split_lhs::SPLIT_KC) inputs: their element, and their index
/// in the element.
#[inline(always)]
fn block_tiles<W: PackedRhs>(panel: &[W], block: usize) -> impl Iterator<Item = (&W, usize)> {
    let per_element = W::DEPTH / TILE_DEPTH;
    let end = (panel.len() * per_element).min((block + 1) * TILES_PER_BLOCK);
    (block * TILES_PER_BLOCK..end).map(move |tile| (&panel[tile / per_element], tile % per_element))
}
