//! Products with bf16 weights ([`TileOperand::Weights`](crate::cpu::gemm::TileOperand::Weights)).

use std::arch::x86_64::*;

use super::as_bf16;
use crate::cpu::arch::prefetch_at;
use crate::cpu::gemm::split_lhs::{TileRow, SPLIT_TILE_ROWS};
use crate::cpu::gemm::{
    Bf16Pairs, NrVector, PackedRhs, RowTileKernel, MR, PREFETCH_ROWS, TILE_PAIRS,
};

/// The products of row tiles by `vdpbf16ps`.
pub(crate) struct PairProducts(());

impl PairProducts {
    /// # Safety
    /// The processor must have AVX-512 and AVX512-BF16.
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

impl RowTileKernel for PairProducts {
    #[inline(always)]
    fn add_product<const TERMS: usize>(
        &mut self,
        lhs: &[TileRow],
        rhs: &[Bf16Pairs],
        _next: *const Bf16Pairs,
        acc: &mut [NrVector],
    ) {
        const { assert!(TERMS == 1, "with three terms, f32 is faster") };
        let (depth_tiles, rest) = rhs.as_chunks();
        let rows = acc.len();
        assert!((1..=SPLIT_TILE_ROWS).contains(&rows), "a row tile of {rows} rows");
        assert!(rest.is_empty() && lhs.len() >= depth_tiles.len() * rows);
        for (index, acc) in acc.chunks_mut(MR).enumerate() {
            let lhs = lhs.as_ptr().wrapping_add(index * MR);
            macro_rules! add_rows {
                ($($rows:literal)*) => {
                    match acc.len() {
                        // SAFETY: `new` requires the instructions. The lhs has `rows` tile rows per depth tile, those of
                        // these rows among them.
                        $($rows => unsafe { add_rows::<$rows>(lhs, rows, depth_tiles, acc) },)*
                        rows => unreachable!("{rows} rows"),
                    }
                };
            }
            add_rows!(1 2 3 4 5 6 7 8 9 10 11 12);
        }
    }
}

/// A register tile of `R` rows: 2 R accumulators, 2 registers of the rhs, 1 of the lhs. `lhs` has the tile rows of these
/// rows for the first depth tile; those for the next are `stride` after them.
///
/// # Safety
/// The processor must have AVX-512 and AVX512-BF16. `lhs` must be valid for all depth tiles.
///
/// # Panics
/// If `acc` does not have `R` rows.
#[target_feature(enable = "avx512f,avx512bf16")]
#[expect(
    clippy::needless_range_loop,
    reason = "loops over constants are unrolled, so `sums` is in registers"
)]
unsafe fn add_rows<const R: usize>(
    lhs: *const TileRow,
    stride: usize,
    depth_tiles: &[[Bf16Pairs; TILE_PAIRS]],
    acc: &mut [NrVector],
) {
    assert_eq!(acc.len(), R);
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for row in 0..R {
        let acc = acc[row].as_ptr();
        // SAFETY: a row has 32 columns.
        sums[row] = unsafe { [_mm512_loadu_ps(acc), _mm512_loadu_ps(acc.add(16))] };
    }
    for (tile, pairs) in depth_tiles.iter().enumerate() {
        // SAFETY: the caller guarantees all depth tiles. The columns of a pair are 32 words.
        unsafe {
            let lhs = lhs.add(tile * stride);
            for (index, pair) in pairs.iter().enumerate() {
                if R <= PREFETCH_ROWS {
                    prefetch_at(pair, Bf16Pairs::PREFETCH_DISTANCE);
                }
                let columns: *const i32 = (&raw const *pair).cast();
                let lower = as_bf16(_mm512_loadu_si512(columns.cast()));
                let upper = as_bf16(_mm512_loadu_si512(columns.add(16).cast()));
                for row in 0..R {
                    let lhs = lhs.add(row).cast::<i32>().add(index).read();
                    let lhs = as_bf16(_mm512_set1_epi32(lhs));
                    sums[row][0] = _mm512_dpbf16_ps(sums[row][0], lhs, lower);
                    sums[row][1] = _mm512_dpbf16_ps(sums[row][1], lhs, upper);
                }
            }
        }
    }
    for row in 0..R {
        let acc = acc[row].as_mut_ptr();
        // SAFETY: as above.
        unsafe {
            _mm512_storeu_ps(acc, sums[row][0]);
            _mm512_storeu_ps(acc.add(16), sums[row][1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::cpu::arch::avx512_bf16::has_instructions;
    use crate::cpu::arch::tests::number;
    use crate::cpu::gemm::{NR, TILE_DEPTH};

    const DEPTH_TILES: usize = 5;

    fn lhs_number(row: usize, depth: usize) -> bf16 {
        bf16::from_f32(number(row * 331 + depth))
    }

    fn rhs_number(depth: usize, column: usize) -> bf16 {
        bf16::from_f32(number(depth * 57 + column + 9))
    }

    fn products(rows: std::ops::Range<usize>) -> Vec<NrVector> {
        let tiles = (0..DEPTH_TILES).flat_map(|tile| rows.clone().map(move |row| (tile, row)));
        let tiles = tiles.map(|(tile, row)| {
            let bits = |depth| lhs_number(row, tile * TILE_DEPTH + depth).to_bits();
            TileRow(std::array::from_fn(bits))
        });
        let lhs: Vec<TileRow> = tiles.collect();
        let pair = |pair: usize| {
            let depths = |column| [2 * pair, 2 * pair + 1].map(|depth| rhs_number(depth, column));
            Bf16Pairs(std::array::from_fn(depths))
        };
        let rhs: Vec<Bf16Pairs> = (0..DEPTH_TILES * TILE_PAIRS).map(pair).collect();
        let mut acc: Vec<NrVector> = rows.map(|row| [row as f32; NR]).collect();
        // SAFETY: the test checks the processor first.
        let mut kernel = unsafe { PairProducts::new() };
        kernel.add_product::<1>(&lhs, &rhs, rhs.as_ptr(), &mut acc);
        acc
    }

    /// In f64.
    fn expected(row: usize, column: usize) -> f64 {
        let depths = 0..DEPTH_TILES * TILE_DEPTH;
        let products = depths
            .map(|depth| f64::from(lhs_number(row, depth)) * f64::from(rhs_number(depth, column)));
        row as f64 + products.sum::<f64>()
    }

    #[test]
    fn products_are_close_and_do_not_depend_on_other_rows() {
        if !has_instructions() {
            return;
        }
        let all = products(0..32);
        for (row, found) in all.iter().enumerate() {
            for (column, &found) in found.iter().enumerate() {
                let expected = expected(row, column);
                assert!((f64::from(found) - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
        for rows in 1..=32 {
            assert_eq!(products(0..rows), all[..rows], "{rows} rows");
            assert_eq!(products(32 - rows..32), all[32 - rows..], "the last {rows} rows");
        }
    }
}
