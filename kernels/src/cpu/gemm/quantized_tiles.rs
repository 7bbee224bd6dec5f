//! Products of AMX with quantized weights: the integers of a group are multiplied by themselves, and then scaled.

use super::numbers_block::{BlockKernel, BlockProduct, NumbersBlock, NumbersKernel, ProductTiles};
use super::split_lhs::{SplitLhs, SPLIT_TILE_ROWS, TILES_PER_BLOCK, TILE_ROWS, WIDE_ROWS};
use super::{NrVector, PackedRhs, NR};
use crate::cpu::arch::amx::Tiles;
use crate::cpu::arch::group_products::{add_few_rows, AccumulatorRows, Scaling};

/// A part of a [`BlockProduct`] whose product with a depth tile fits in one register: the rows of a register, and half of
/// the columns.
#[derive(Clone, Copy)]
struct Part {
    /// The half of the columns, 0 or 1.
    half: usize,
    /// The first row in the row tile.
    first_row: usize,
}

impl NumbersKernel for Tiles {
    const FEW_ROWS: usize = WIDE_ROWS;

    /// Without AMX, but with the same results.
    #[inline(always)]
    unsafe fn add_few_rows<W: PackedRhs>(
        &mut self,
        lhs: &SplitLhs,
        depth: usize,
        rhs: &W,
        acc: &mut [NrVector],
    ) {
        // SAFETY: the caller upholds the contract above.
        unsafe { add_few_rows(lhs.wide(depth..depth + W::DEPTH), rhs, lhs.sums(0, depth), acc) };
    }

    #[inline(always)]
    fn begin_blocks<'a>(
        &'a mut self,
        products: &'a mut [ProductTiles; 2],
        acc: &'a mut [NrVector],
    ) -> impl BlockKernel<'a> {
        ProductPipeline { registers: self, products, previous: None, acc }
    }
}

/// Multiplies blocks one after the other. The products of a part are scaled and added to the accumulators while AMX
/// multiplies the next part: neither waits for the other. [`finish`](BlockKernel::finish) adds the last part.
struct ProductPipeline<'a> {
    registers: &'a mut Tiles,
    /// Of even and of odd parts of a block. Blocks have an even number of them.
    products: &'a mut [ProductTiles; 2],
    /// The last block, of which the last part is not yet added.
    previous: Option<BlockProduct<'a>>,
    acc: &'a mut [NrVector],
}

impl<'a> BlockKernel<'a> for ProductPipeline<'a> {
    /// Adds all but the last part of the block to the accumulators.
    #[inline(always)]
    fn multiply<const TERMS: usize>(&mut self, product: BlockProduct<'a>) {
        product.check::<TERMS>(self.acc);
        let registers = self.registers.of_rows(product.tile_rows);
        let previous = self.previous.as_ref();
        let has_mins = product.block.has_mins;
        let is_alike =
            |previous: &BlockProduct| previous.is_full() && previous.block.has_mins == has_mins;
        if product.is_full() && previous.is_none_or(is_alike) {
            let (products, acc) = (&mut *self.products, self.acc.as_mut_ptr());
            // SAFETY: both have been checked, both are full, and both have minima or neither has. AMX is available only with
            // AVX-512.
            unsafe {
                if has_mins {
                    product.multiply_full::<TERMS, true>(registers, products, previous, acc);
                } else {
                    product.multiply_full::<TERMS, false>(registers, products, previous, acc);
                }
            }
        } else {
            let mut earlier = previous.map(|previous| (previous, previous.last_part()));
            for (index, part) in product.parts().enumerate() {
                let [to, from] = self.products.each_mut();
                let (to, from) = if index % 2 == 0 { (to, from) } else { (from, to) };
                // SAFETY: both have been checked.
                unsafe {
                    product.multiply_part::<TERMS>(part, registers, to);
                    if let Some((earlier, part)) = earlier {
                        earlier.add(part, from, self.acc);
                    }
                }
                earlier = Some((&product, part));
            }
        }
        self.previous = Some(product);
    }

    /// Adds the last part of the last block.
    #[inline(always)]
    fn finish(self) {
        if let Some(previous) = self.previous {
            // SAFETY: it has been checked.
            unsafe { previous.add(previous.last_part(), &self.products[1], self.acc) };
        }
    }
}

impl BlockProduct<'_> {
    /// Whether all depth tiles and rows are in use.
    #[inline(always)]
    fn is_full(&self) -> bool {
        self.block.depth_tiles == TILES_PER_BLOCK && self.tile_rows == SPLIT_TILE_ROWS
    }

    /// The parts in the order in which they are multiplied.
    #[inline(always)]
    fn parts(&self) -> impl Iterator<Item = Part> {
        let first_rows = (0..self.tile_rows).step_by(TILE_ROWS);
        [0, 1]
            .into_iter()
            .flat_map(move |half| first_rows.clone().map(move |first_row| Part { half, first_row }))
    }

    #[inline(always)]
    fn last_part(&self) -> Part {
        Part { half: 1, first_row: (self.tile_rows - 1) / TILE_ROWS * TILE_ROWS }
    }

    /// Multiplies all parts, and adds the last part of `previous`, if any, and the first ones of this block.
    ///
    /// Not inlined, to keep its caller small.
    ///
    /// # Safety
    /// Both must be full and have passed [`Self::check`] with these accumulators, and both must have minima if `MIN`.
    /// `products` must be those of a [`ProductPipeline`], and the processor must have AVX-512.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx2,fma")]
    unsafe fn multiply_full<const TERMS: usize, const MIN: bool>(
        &self,
        registers: &Tiles,
        products: &mut [ProductTiles; 2],
        previous: Option<&BlockProduct>,
        acc: *mut NrVector,
    ) {
        let [even, odd] = products;
        macro_rules! multiply {
            ($half:literal, $second:literal, $to:ident, $earlier:ident, $earlier_part:expr, $products:ident) => {
                // SAFETY: the caller upholds the contract above.
                unsafe {
                    self.multiply_and_add::<TERMS, $second, MIN>(
                        $half,
                        registers,
                        $to,
                        $earlier,
                        $earlier_part,
                        $products,
                        acc,
                    );
                }
            };
        }
        let part = |half, first_row| Part { half, first_row };
        match previous {
            Some(previous) => multiply!(0, false, even, previous, part(1, TILE_ROWS), odd),
            // SAFETY: the caller upholds the contract above.
            None => unsafe { self.multiply_part::<TERMS>(part(0, 0), registers, even) },
        }
        multiply!(0, true, odd, self, part(0, 0), even);
        multiply!(1, false, even, self, part(0, TILE_ROWS), odd);
        multiply!(1, true, odd, self, part(1, 0), even);
    }

    /// Multiplies a part, of the second register of rows if `SECOND`, while `products` are added: those of a part of
    /// `earlier`, with minima if `MIN`.
    ///
    /// # Safety
    /// As for [`Self::multiply_full`].
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "5 % faster: a loop over constants is unrolled")]
    #[expect(clippy::too_many_arguments, reason = "two parts, and what they are multiplied with")]
    unsafe fn multiply_and_add<const TERMS: usize, const SECOND: bool, const MIN: bool>(
        &self,
        half: usize,
        registers: &Tiles,
        to: &mut ProductTiles,
        earlier: &BlockProduct,
        earlier_part: Part,
        products: &ProductTiles,
        acc: *mut NrVector,
    ) {
        /// Rows that are added while a depth tile is multiplied.
        const ROWS: usize = TILE_ROWS / TILES_PER_BLOCK;
        // SAFETY: the caller upholds the contract above.
        unsafe {
            let scaling = earlier.scaling::<TILES_PER_BLOCK, MIN>(earlier_part, 0);
            let acc = earlier.accumulators(earlier_part, 0, acc);
            let sums = earlier.sums.as_ptr().wrapping_add(earlier_part.first_row);
            for tile in 0..TILES_PER_BLOCK {
                let rows = tile * ROWS..(tile + 1) * ROWS;
                self.begin::<TERMS, SECOND>(half, tile, registers);
                scaling.add_rows::<MIN>(products.as_ptr(), sums, SPLIT_TILE_ROWS, rows, acc);
                registers.store_product::<SECOND>(&mut to[tile]);
            }
        }
    }

    /// Multiplies a part of any number of rows and depth tiles.
    ///
    /// # Safety
    /// [`Self::check`] must have passed.
    #[inline(always)]
    unsafe fn multiply_part<const TERMS: usize>(
        &self,
        part: Part,
        registers: &Tiles,
        to: &mut ProductTiles,
    ) {
        for (tile, to) in to[..self.block.depth_tiles].iter_mut().enumerate() {
            // SAFETY: the caller upholds the contract above, and the depth tile is in use.
            unsafe {
                if part.first_row > 0 {
                    self.begin::<TERMS, true>(part.half, tile, registers);
                    registers.store_product::<true>(to);
                } else {
                    self.begin::<TERMS, false>(part.half, tile, registers);
                    registers.store_product::<false>(to);
                }
            }
        }
    }

    /// Begins the product of a depth tile, of the second register of rows if `SECOND`.
    ///
    /// # Safety
    /// [`Self::check`] must have passed, the row tile must have these rows, and the depth tile must be in use.
    #[inline(always)]
    unsafe fn begin<const TERMS: usize, const SECOND: bool>(
        &self,
        half: usize,
        tile: usize,
        registers: &Tiles,
    ) {
        let first_row = if SECOND { TILE_ROWS } else { 0 };
        // SAFETY: the caller upholds the contract above.
        unsafe {
            let lhs = self.lhs.as_ptr().add(tile * TERMS * self.tile_rows + first_row);
            registers.begin_product::<SECOND, TERMS>(lhs, &self.block.numbers[half][tile]);
        }
    }

    /// The scaling of a part, of `TILES` depth tiles from `first_tile` on.
    ///
    /// # Safety
    /// The block must have these depth tiles, and the processor AVX-512.
    #[inline(always)]
    unsafe fn scaling<const TILES: usize, const MIN: bool>(
        &self,
        part: Part,
        first_tile: usize,
    ) -> Scaling<TILES> {
        let NumbersBlock { scales, mins, .. } = self.block;
        // SAFETY: the caller upholds the contract above.
        unsafe {
            Scaling::load::<MIN>(
                scales.as_ptr().add(first_tile),
                mins.as_ptr().add(first_tile),
                part.half * NR / 2,
            )
        }
    }

    /// The accumulators of a part, which have no sums yet if these are the first inputs and `tile` is 0.
    #[inline(always)]
    fn accumulators(&self, part: Part, tile: usize, acc: *mut NrVector) -> AccumulatorRows {
        let acc = acc.wrapping_add(self.acc_start + part.first_row).cast::<f32>();
        AccumulatorRows::new(acc.wrapping_add(part.half * NR / 2), self.is_first && tile == 0)
    }

    /// Adds the products of a part.
    ///
    /// # Safety
    /// [`Self::check`] must have passed with these accumulators.
    #[inline(always)]
    unsafe fn add(&self, part: Part, products: &ProductTiles, acc: &mut [NrVector]) {
        let rows = TILE_ROWS.min(self.tile_rows - part.first_row);
        for (tile, product) in products[..self.block.depth_tiles].iter().enumerate() {
            let acc = self.accumulators(part, tile, acc.as_mut_ptr());
            let sums = self.sums.as_ptr().wrapping_add(tile * self.tile_rows + part.first_row);
            // SAFETY: the caller upholds the contract above, and the depth tile is in use. AMX is available only with AVX-512.
            unsafe {
                if self.block.has_mins {
                    let scaling = self.scaling::<1, true>(part, tile);
                    scaling.add_rows::<true>(product, sums, self.tile_rows, 0..rows, acc);
                } else {
                    let scaling = self.scaling::<1, false>(part, tile);
                    scaling.add_rows::<false>(product, sums, self.tile_rows, 0..rows, acc);
                }
            }
        }
    }
}
