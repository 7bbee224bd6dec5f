//! Products with the integers of quantized weights ([`TileOperand::Numbers`](crate::cpu::gemm::TileOperand::Numbers)): those
//! of a depth tile are summed from zero by ascending depth, and then scaled. The integers are converted to bf16 once for
//! many rows ([`WidenedNumbers`]) or as they are multiplied ([`PackedNumbers`]). Both give the same bits.

use std::arch::x86_64::*;

use super::as_bf16;
use crate::cpu::arch::amx::RhsTile;
use crate::cpu::arch::group_products::{add_scaled, pair_numbers};
use crate::cpu::gemm::split_lhs::TileRow;
use crate::cpu::gemm::{NrVector, PackedRhs, TILE_DEPTH};

/// Rows of the largest register tile: 16 accumulators, 2 registers of the rhs, 1 of the lhs. Row tiles of full height are
/// a multiple of it.
pub(crate) const GROUP_ROWS: usize = 8;

/// The integers and scales of one depth tile.
trait DepthTile {
    /// The integers at pair `pair` of depths, for both halves of the columns.
    ///
    /// # Safety
    /// The processor must have AVX-512, and the pair must be below [`TILE_PAIRS`](crate::cpu::gemm::TILE_PAIRS).
    unsafe fn pairs(&self, pair: usize) -> [__m512bh; 2];

    /// The scales and, of types that have them, the minima of the 16 columns from `column` on, which is 0 or 16.
    ///
    /// # Safety
    /// The processor must have AVX-512.
    unsafe fn scale_and_min(&self, column: usize) -> (__m512, Option<__m512>);
}

/// A depth tile of a packed rhs element.
struct PackedNumbers<'a, W> {
    rhs: &'a W,
    /// Within the element.
    tile: usize,
}

impl<W: PackedRhs> DepthTile for PackedNumbers<'_, W> {
    #[inline(always)]
    unsafe fn pairs(&self, pair: usize) -> [__m512bh; 2] {
        let depth = self.tile * TILE_DEPTH + 2 * pair;
        // SAFETY: the caller guarantees AVX-512 and the pair, and the tile is within the element.
        unsafe {
            let lower =
                pair_numbers(self.rhs.load_number(depth, 0), self.rhs.load_number(depth + 1, 0));
            let upper =
                pair_numbers(self.rhs.load_number(depth, 16), self.rhs.load_number(depth + 1, 16));
            [as_bf16(lower), as_bf16(upper)]
        }
    }

    #[inline(always)]
    unsafe fn scale_and_min(&self, column: usize) -> (__m512, Option<__m512>) {
        // SAFETY: the caller guarantees AVX-512 and the columns, and the tile is within the element.
        unsafe { W::scale_and_min::<__m512>(self.rhs.load_scales(self.tile, column)) }
    }
}

/// A depth tile with its integers in bf16.
pub(crate) struct WidenedNumbers<'a> {
    /// Per half of the columns.
    pub numbers: [&'a RhsTile; 2],
    pub scales: &'a NrVector,
    pub mins: Option<&'a NrVector>,
}

impl DepthTile for WidenedNumbers<'_> {
    #[inline(always)]
    unsafe fn pairs(&self, pair: usize) -> [__m512bh; 2] {
        let [lower, upper] = self.numbers;
        // SAFETY: the caller guarantees AVX-512 and the pair. A tile row is a vector.
        unsafe {
            let lower = _mm512_loadu_si512(lower.as_ptr().add(pair).cast());
            let upper = _mm512_loadu_si512(upper.as_ptr().add(pair).cast());
            [as_bf16(lower), as_bf16(upper)]
        }
    }

    #[inline(always)]
    unsafe fn scale_and_min(&self, column: usize) -> (__m512, Option<__m512>) {
        // SAFETY: the caller guarantees AVX-512 and the columns.
        unsafe {
            let scale = _mm512_loadu_ps(self.scales.as_ptr().add(column));
            if let Some(mins) = self.mins {
                (scale, Some(_mm512_loadu_ps(mins.as_ptr().add(column))))
            } else {
                (scale, None)
            }
        }
    }
}

/// Calls `$function` for the number of rows of `$acc`, a constant.
macro_rules! for_rows {
    ($function:ident, [$($type:ty)?], $acc:ident, $arguments:tt) => {
        match $acc.len() {
            1 => $function::<1 $(, $type)?> $arguments,
            2 => $function::<2 $(, $type)?> $arguments,
            3 => $function::<3 $(, $type)?> $arguments,
            4 => $function::<4 $(, $type)?> $arguments,
            5 => $function::<5 $(, $type)?> $arguments,
            6 => $function::<6 $(, $type)?> $arguments,
            7 => $function::<7 $(, $type)?> $arguments,
            8 => $function::<8 $(, $type)?> $arguments,
            rows => unreachable!("{rows} rows"),
        }
    };
}

/// `acc += scale * products + min * sums` of a packed rhs element. `lhs` has a tile row per row for each of its depth tiles,
/// and `sums` the sum of the inputs of every row.
///
/// # Safety
/// The processor must have AVX-512 and AVX512-BF16.
///
/// # Panics
/// If there are no rows or more than [`GROUP_ROWS`], or if an operand has fewer.
#[inline(always)]
pub(crate) unsafe fn add_packed_numbers<W: PackedRhs>(
    lhs: &[TileRow],
    rhs: &W,
    sums: &[f32],
    acc: &mut [NrVector],
) {
    // SAFETY: the caller upholds the contract above.
    unsafe { for_rows!(add_packed, [W], acc, (lhs, rhs, sums, acc)) }
}

/// As [`add_packed_numbers`], of one depth tile with its integers in bf16.
///
/// # Safety
/// The processor must have AVX-512 and AVX512-BF16.
///
/// # Panics
/// As [`add_packed_numbers`].
#[inline(always)]
pub(crate) unsafe fn add_widened_numbers(
    lhs: &[TileRow],
    numbers: &WidenedNumbers,
    sums: &[f32],
    acc: &mut [NrVector],
) {
    // SAFETY: the caller upholds the contract above.
    unsafe { for_rows!(add_widened, [], acc, (lhs, numbers, sums, acc)) }
}

/// Not inlined, because the caller would take minutes to compile.
///
/// # Safety
/// As for [`add_packed_numbers`].
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bf16,avx2,fma,f16c")]
unsafe fn add_packed<const R: usize, W: PackedRhs>(
    lhs: &[TileRow],
    rhs: &W,
    sums: &[f32],
    acc: &mut [NrVector],
) {
    for tile in 0..W::DEPTH / TILE_DEPTH {
        let (lhs, sums) = (&lhs[tile * R..], sums.get(tile * R..).unwrap_or_default());
        // SAFETY: the caller upholds the contract above, and the tile is within the element.
        unsafe { add_rows::<R, _>(lhs, &PackedNumbers { rhs, tile }, sums, acc) };
    }
}

/// Not inlined, as [`add_packed`].
///
/// # Safety
/// As for [`add_widened_numbers`].
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bf16,avx2,fma,f16c")]
unsafe fn add_widened<const R: usize>(
    lhs: &[TileRow],
    numbers: &WidenedNumbers,
    sums: &[f32],
    acc: &mut [NrVector],
) {
    // SAFETY: the caller upholds the contract above.
    unsafe { add_rows::<R, _>(lhs, numbers, sums, acc) }
}

/// A register tile of `R` rows: 2 R accumulators, 2 registers of the rhs, 1 of the lhs.
///
/// # Safety
/// The processor must have AVX-512 and AVX512-BF16.
///
/// # Panics
/// If `acc` does not have `R` rows, or another operand has fewer.
#[inline(always)]
unsafe fn add_rows<const R: usize, T: DepthTile>(
    lhs: &[TileRow],
    numbers: &T,
    sums: &[f32],
    acc: &mut [NrVector],
) {
    assert!(acc.len() == R && lhs.len() >= R);
    // SAFETY: the caller guarantees the instructions. The lengths are checked, and the pairs and columns exist.
    unsafe {
        let lhs = lhs.as_ptr();
        let mut products = [[_mm512_setzero_ps(); 2]; R];
        // Unrolled by hand, so that bit shifts are constants.
        macro_rules! add_pairs {
            ($($pair:literal)*) => {
                $(
                    let [lower, upper] = numbers.pairs($pair);
                    for row in 0..R {
                        let lhs = lhs.add(row).cast::<i32>().add($pair).read();
                        let lhs = as_bf16(_mm512_set1_epi32(lhs));
                        products[row][0] = _mm512_dpbf16_ps(products[row][0], lhs, lower);
                        products[row][1] = _mm512_dpbf16_ps(products[row][1], lhs, upper);
                    }
                )*
            };
        }
        add_pairs!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        let scales = [numbers.scale_and_min(0), numbers.scale_and_min(16)];
        add_scaled(&products, scales, sums, acc);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use half::bf16;

    use super::*;
    use crate::cpu::arch::avx512_bf16::has_instructions;
    use crate::cpu::arch::group_products::{widen_numbers, widen_scales};
    use crate::cpu::arch::tests::number;
    use crate::cpu::gemm::rhs::RhsPanels;
    use crate::cpu::gemm::{TileOperand, NR, TILE_PAIRS};
    use crate::cpu::quant::{Quantized, Q4K, Q5_0, Q8_0};

    fn input(row: usize, depth: usize) -> bf16 {
        bf16::from_f32(number(row * 331 + depth))
    }

    /// The products of some rows with the first depth tiles of an element: as packed, and converted before.
    fn products<W: PackedRhs>(rhs: &W, rows: std::ops::Range<usize>) -> [Vec<NrVector>; 2] {
        let initial: Vec<NrVector> = rows.clone().map(|row| [row as f32; NR]).collect();
        let mut found = [initial.clone(), initial];
        let [packed, widened] = &mut found;
        let (mut all_lhs, mut all_sums) = (Vec::new(), Vec::new());
        for tile in 0..W::DEPTH / TILE_DEPTH {
            let depths = tile * TILE_DEPTH..(tile + 1) * TILE_DEPTH;
            let bits =
                |row| std::array::from_fn(|depth| input(row, depths.start + depth).to_bits());
            let lhs: Vec<TileRow> = rows.clone().map(|row| TileRow(bits(row))).collect();
            let sum = |row| depths.clone().map(|depth| f32::from(input(row, depth))).sum();
            let sums: Vec<f32> = rows.clone().map(sum).collect();
            let (mut lower, mut upper) =
                ([TileRow([0; 32]); TILE_PAIRS], [TileRow([0; 32]); TILE_PAIRS]);
            let (mut scales, mut mins) = ([0.0; NR], [0.0; NR]);
            // SAFETY: the test checks the processor first, and the tile is within the element.
            unsafe {
                widen_numbers(rhs, tile, [&mut lower, &mut upper]);
                widen_scales(rhs, tile, &mut scales, &mut mins);
                let has_mins = W::TILE_OPERAND == TileOperand::Numbers { min: true };
                let mins = has_mins.then_some(&mins);
                let numbers = WidenedNumbers { numbers: [&lower, &upper], scales: &scales, mins };
                add_widened_numbers(&lhs, &numbers, &sums, widened);
            }
            all_lhs.extend(lhs);
            all_sums.extend(sums);
        }
        // SAFETY: the test checks the processor first.
        unsafe { add_packed_numbers(&all_lhs, rhs, &all_sums, packed) };
        found
    }

    fn check<W: Quantized>() {
        let weights: Vec<f32> = (0..NR * W::DEPTH).map(|index| number(index * 57 + 9)).collect();
        let weights = Tensor::from_vec(weights, (NR, W::DEPTH), &Device::Cpu).unwrap();
        let panels = RhsPanels::<W>::quantize(&weights).unwrap();
        let rhs = &panels.iter().next().unwrap()[0];
        let [all, _] = products(rhs, 0..GROUP_ROWS);
        for (row, found) in all.iter().enumerate() {
            for (column, &found) in found.iter().enumerate() {
                let product =
                    |depth| f64::from(input(row, depth)) * f64::from(rhs.value(depth, column));
                let expected = row as f64 + (0..W::DEPTH).map(product).sum::<f64>();
                assert!((f64::from(found) - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
        for rows in 1..=GROUP_ROWS {
            let first = GROUP_ROWS - rows;
            for found in products(rhs, first..GROUP_ROWS) {
                assert_eq!(found, all[first..], "{:?}, {rows} rows", W::DTYPE);
            }
        }
    }

    #[test]
    fn products_are_close_and_depend_on_neither_other_rows_nor_the_conversion() {
        if has_instructions() {
            check::<Q8_0>();
            check::<Q5_0>();
            check::<Q4K>();
        }
    }
}
