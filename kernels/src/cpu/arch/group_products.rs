//! Products with the integers of quantized weights ([`TileOperand::Numbers`]), as far as neither AMX nor AVX512-BF16 computes
//! them: the conversion of the integers, the products of few rows beside AMX, and the scales. On AVX-512, which every
//! processor with either has.
//!
//! [`TileOperand::Numbers`]: crate::cpu::gemm::TileOperand::Numbers

use std::arch::x86_64::*;
use std::ops::Range;

use super::amx::{ProductTile, RhsTile};
use super::{Lanes, SimdVector, LANES};
use crate::cpu::gemm::{NrVector, PackedRhs, NR, TILE_DEPTH};

/// Converts the numbers of one depth tile of a packed rhs element to bf16, which is exact.
///
/// # Safety
/// The processor must have AVX-512, and the tile must be within the element.
#[inline(always)]
pub(crate) unsafe fn widen_numbers<W: PackedRhs>(rhs: &W, tile: usize, to: [&mut RhsTile; 2]) {
    // SAFETY: the caller upholds the contract above.
    unsafe {
        let first_depth = tile * TILE_DEPTH;
        for (column, to) in [0, 16].into_iter().zip(to) {
            // Unrolled by hand, so that bit shifts are constants.
            macro_rules! unrolled {
                ($($pair:literal)*) => {
                    $(
                        let first: __m512 = rhs.load_number(first_depth + 2 * $pair, column);
                        let second: __m512 = rhs.load_number(first_depth + 2 * $pair + 1, column);
                        _mm512_storeu_si512(to[$pair].0.as_mut_ptr().cast(), pair_numbers(first, second));
                    )*
                };
            }
            unrolled!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        }
    }
}

/// Numbers that are exact in bf16 as pairs, one per column.
///
/// # Safety
/// The processor must have AVX-512.
#[inline(always)]
pub(crate) unsafe fn pair_numbers(first: __m512, second: __m512) -> __m512i {
    // SAFETY: the caller upholds the contract above.
    unsafe {
        let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
        let first = _mm512_srli_epi32::<16>(_mm512_castps_si512(first));
        let second = _mm512_and_si512(_mm512_castps_si512(second), upper);
        _mm512_or_si512(first, second)
    }
}

/// `acc += scale * products + min * sums` for one or two rows and one packed rhs element. `lhs` has the terms of the rows in
/// f32 for its depth tiles: row after row of each term. `sums` has the sum of the inputs of every row per depth tile. The
/// products are those of [`Tiles::begin_product`](super::amx::Tiles::begin_product) by multiply-adds, in the order of
/// `tdpbf16ps`: the products at even and at odd depths, their sum, and that of the terms.
///
/// # Safety
/// The processor must have AVX-512.
///
/// # Panics
/// If there are more than two rows, if there are not one or three terms, or if weights with minima have fewer sums than rows.
#[inline(always)]
pub(crate) unsafe fn add_few_rows<W: PackedRhs>(
    lhs: &[[f32; TILE_DEPTH]],
    rhs: &W,
    sums: &[f32],
    acc: &mut [NrVector],
) {
    let tiles = W::DEPTH / TILE_DEPTH;
    // SAFETY: the caller upholds the contract of `add_terms`.
    unsafe {
        match (lhs.len() / tiles, acc.len()) {
            (1, 1) => add_terms::<W, 1, 1>(lhs, rhs, sums, acc),
            (2, 2) => add_terms::<W, 2, 2>(lhs, rhs, sums, acc),
            (3, 1) => add_terms::<W, 3, 1>(lhs, rhs, sums, acc),
            (6, 2) => add_terms::<W, 6, 2>(lhs, rhs, sums, acc),
            (terms, rows) => unreachable!("{terms} terms of {rows} rows"),
        }
    }
}

/// [`add_few_rows`] of `R` rows, which have `N` terms together.
///
/// Not inlined, because the caller would take minutes to compile.
///
/// # Safety
/// As for [`add_few_rows`].
///
/// # Panics
/// If `lhs` does not have `N` terms per depth tile or `acc` does not have `R` rows.
#[inline(never)]
#[target_feature(enable = "avx512f,avx2,fma,f16c")]
unsafe fn add_terms<W: PackedRhs, const N: usize, const R: usize>(
    lhs: &[[f32; TILE_DEPTH]],
    rhs: &W,
    sums: &[f32],
    acc: &mut [NrVector],
) {
    let tiles = W::DEPTH / TILE_DEPTH;
    assert!(lhs.len() == N * tiles && acc.len() == R);
    for (tile, lhs) in lhs.chunks_exact(N).enumerate() {
        let sums = sums.get(tile * R..).unwrap_or_default();
        // SAFETY: the lengths are checked, the tile is within the element, and the caller upholds the rest.
        unsafe {
            let products = products_of_terms::<W, N, R>(lhs, rhs, tile);
            let scales = [
                W::scale_and_min(rhs.load_scales(tile, 0)),
                W::scale_and_min(rhs.load_scales(tile, 16)),
            ];
            add_scaled(&products, scales, sums, acc);
        }
    }
}

/// The products with one depth tile, of both halves of the columns.
///
/// # Safety
/// As for [`add_few_rows`]; `lhs` must have `N` terms, and the tile must be within the element.
#[inline(always)]
unsafe fn products_of_terms<W: PackedRhs, const N: usize, const R: usize>(
    lhs: &[[f32; TILE_DEPTH]],
    rhs: &W,
    tile: usize,
) -> [[__m512; 2]; R] {
    let first_depth = tile * TILE_DEPTH;
    // SAFETY: the caller upholds the contract above.
    unsafe {
        // Per term of a row, parity of the depth, and half of the columns.
        let mut by_parity = [[[__m512::splat(0.0); 2]; 2]; N];
        // Unrolled by hand, so that bit shifts are constants.
        macro_rules! add_depths {
            ($($depth:literal, $parity:literal;)*) => {
                $(
                    let numbers = [
                        rhs.load_number::<__m512>(first_depth + $depth, 0),
                        rhs.load_number::<__m512>(first_depth + $depth, 16),
                    ];
                    for term in 0..N {
                        let lhs = __m512::splat(lhs.get_unchecked(term)[$depth]);
                        let to = &mut by_parity[term][$parity];
                        to[0] = to[0].add_product(lhs, numbers[0]);
                        to[1] = to[1].add_product(lhs, numbers[1]);
                    }
                )*
            };
        }
        add_depths!(
            0, 0; 1, 1; 2, 0; 3, 1; 4, 0; 5, 1; 6, 0; 7, 1;
            8, 0; 9, 1; 10, 0; 11, 1; 12, 0; 13, 1; 14, 0; 15, 1;
            16, 0; 17, 1; 18, 0; 19, 1; 20, 0; 21, 1; 22, 0; 23, 1;
            24, 0; 25, 1; 26, 0; 27, 1; 28, 0; 29, 1; 30, 0; 31, 1;
        );
        let mut products = [[__m512::splat(0.0); 2]; R];
        for row in 0..R {
            for half in 0..2 {
                for term in 0..N / R {
                    let [even, odd] = by_parity[term * R + row];
                    let product = _mm512_add_ps(even[half], odd[half]);
                    products[row][half] = _mm512_add_ps(products[row][half], product);
                }
            }
        }
        products
    }
}

/// `acc += scale * products + min * sums` for `R` rows and one depth tile. `scales` has the scale and, of types that have one,
/// the minimum of both halves of the columns, and `sums` starts with the sum of the inputs of every row.
///
/// # Safety
/// The processor must have AVX-512, and `acc` must have `R` rows.
///
/// # Panics
/// If weights with minima have fewer sums than rows.
#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "loops over constants are unrolled, so `products` is in registers"
)]
pub(crate) unsafe fn add_scaled<const R: usize>(
    products: &[[__m512; 2]; R],
    scales: [(__m512, Option<__m512>); 2],
    sums: &[f32],
    acc: &mut [NrVector],
) {
    debug_assert_eq!(acc.len(), R);
    // SAFETY: the caller upholds the contract above, and the number of sums is checked.
    unsafe {
        for half in 0..2 {
            let (scale, min) = scales[half];
            assert!(min.is_none() || sums.len() >= R);
            for row in 0..R {
                let to = acc.get_unchecked_mut(row).as_mut_ptr().add(16 * half);
                let mut sum = __m512::load_f32(to);
                if let Some(min) = min {
                    sum = sum.add_product(__m512::splat(*sums.get_unchecked(row)), min);
                }
                sum.add_product(products[row][half], scale).store(to);
            }
        }
    }
}

/// The scales and minima of one depth tile of a packed rhs element.
///
/// # Safety
/// The processor must have AVX-512, and the tile must be within the element.
#[inline(always)]
pub(crate) unsafe fn widen_scales<W: PackedRhs>(
    rhs: &W,
    tile: usize,
    scales: &mut NrVector,
    mins: &mut NrVector,
) {
    // SAFETY: the caller upholds the contract above.
    unsafe {
        for column in [0, 16] {
            let (scale, min) = W::scale_and_min::<__m512>(rhs.load_scales(tile, column));
            scale.store(scales.as_mut_ptr().add(column));
            if let Some(min) = min {
                min.store(mins.as_mut_ptr().add(column));
            }
        }
    }
}

/// What the products of `TILES` consecutive depth tiles with 16 columns are scaled by.
pub(crate) struct Scaling<const TILES: usize> {
    scales: [__m512; TILES],
    mins: [__m512; TILES],
}

impl<const TILES: usize> Scaling<TILES> {
    /// The scales and, if `MIN`, minima of the first depth tiles, for the columns from `column` on.
    ///
    /// # Safety
    /// The processor must have AVX-512, and the operands must have these tiles and columns.
    #[inline(always)]
    pub(crate) unsafe fn load<const MIN: bool>(
        scales: *const NrVector,
        mins: *const NrVector,
        column: usize,
    ) -> Self {
        // SAFETY: the caller upholds the contract above.
        unsafe {
            let zeros = [__m512::splat(0.0); TILES];
            let mut scaling = Self { scales: zeros, mins: zeros };
            for tile in 0..TILES {
                scaling.scales[tile] = __m512::load_f32(scales.add(tile).cast::<f32>().add(column));
                if MIN {
                    scaling.mins[tile] = __m512::load_f32(mins.add(tile).cast::<f32>().add(column));
                }
            }
            scaling
        }
    }

    /// `acc += scale * products + min * sums` of some rows. `products` points to the first depth tile, `sums` to the
    /// sums of its inputs: one of each row, those of the next depth tile `stride` after them.
    ///
    /// # Safety
    /// The processor must have AVX-512, and the operands must have these rows and depth tiles.
    #[inline(always)]
    pub(crate) unsafe fn add_rows<const MIN: bool>(
        &self,
        products: *const ProductTile,
        sums: *const f32,
        stride: usize,
        rows: Range<usize>,
        AccumulatorRows { from, from_stride, to }: AccumulatorRows,
    ) {
        // SAFETY: the caller upholds the contract above.
        unsafe {
            for row in rows {
                let mut sum = __m512::load_f32(from.add(row * from_stride));
                for tile in 0..TILES {
                    if MIN {
                        let inputs = __m512::splat(*sums.add(tile * stride + row));
                        sum = sum.add_product(inputs, self.mins[tile]);
                    }
                    let products = products.add(tile).cast::<f32>().add(LANES * row);
                    sum = sum.add_product(__m512::load_f32(products), self.scales[tile]);
                }
                sum.store(to.add(row * NR));
            }
        }
    }
}

/// The accumulators that products are added to: of 16 columns, from the first row of the products on.
#[derive(Clone, Copy)]
pub(crate) struct AccumulatorRows {
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
}

impl AccumulatorRows {
    /// Those from `to` on, with [`NR`] numbers per row. If `is_first`, they have no sums yet and count as zero.
    #[inline(always)]
    pub(crate) fn new(to: *mut f32, is_first: bool) -> Self {
        static ZEROS: Lanes = [0.0; LANES];
        if is_first {
            Self { from: ZEROS.as_ptr(), from_stride: 0, to }
        } else {
            Self { from: to, from_stride: NR, to }
        }
    }
}
