//! Products of AVX512-BF16 with quantized weights.

use super::numbers_block::{BlockKernel, BlockProduct, NumbersKernel, ProductTiles};
use super::split_lhs::SplitLhs;
use super::{NrVector, PackedRhs, NR};
use crate::cpu::arch::avx512_bf16::{
    add_packed_numbers, add_widened_numbers, PairProducts, GROUP_ROWS,
};

impl NumbersKernel for PairProducts {
    const FEW_ROWS: usize = GROUP_ROWS;

    #[inline(always)]
    unsafe fn add_few_rows<W: PackedRhs>(
        &mut self,
        lhs: &SplitLhs,
        depth: usize,
        rhs: &W,
        acc: &mut [NrVector],
    ) {
        // SAFETY: `PairProducts` exist only on processors with AVX512-BF16.
        unsafe { add_packed_numbers(lhs.tile(0, depth), rhs, lhs.sums(0, depth), acc) };
    }

    #[inline(always)]
    fn begin_blocks<'a>(
        &'a mut self,
        _products: &'a mut [ProductTiles; 2],
        acc: &'a mut [NrVector],
    ) -> impl BlockKernel<'a> {
        BlockPairs { _kernel: self, acc }
    }
}

/// Multiplies and adds one block after the other.
struct BlockPairs<'a> {
    /// Exists only on processors with AVX512-BF16.
    _kernel: &'a PairProducts,
    acc: &'a mut [NrVector],
}

impl<'a> BlockKernel<'a> for BlockPairs<'a> {
    #[inline(always)]
    fn multiply<const TERMS: usize>(&mut self, product: BlockProduct<'a>) {
        const { assert!(TERMS == 1, "with three terms, f32 is faster") };
        product.check::<TERMS>(self.acc);
        let BlockProduct { block, lhs, sums, tile_rows, acc_start, is_first } = product;
        let acc = &mut self.acc[acc_start..][..tile_rows];
        if is_first {
            acc.fill([0.0; NR]);
        }
        for (group, acc) in acc.chunks_mut(GROUP_ROWS).enumerate() {
            for tile in 0..block.depth_tiles {
                let first = tile * tile_rows + group * GROUP_ROWS;
                let sums = sums.get(first..).unwrap_or_default();
                // SAFETY: `PairProducts` exist only on processors with AVX512-BF16.
                unsafe { add_widened_numbers(&lhs[first..], &block.depth_tile(tile), sums, acc) };
            }
        }
    }

    fn finish(self) {}
}
