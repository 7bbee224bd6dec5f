//! The lhs operand of AMX: activations as sums of three bf16 numbers.
//!
//! An f32 has 24 significant bits and a bf16 has 8, so an f32 is the sum of three bf16 numbers: its upper 8 bits, the
//! next 8 and the last 8, as long as they are not below [`SMALLEST_TERM`]. The products of the three with a bf16 weight
//! are exact in f32. Three products in bf16 thus multiply f32 activations, without rounding them first.

use std::mem::MaybeUninit;

use super::{TileOperand, MC, TILE_DEPTH};
use crate::cpu::arch::{self, sum, Isa, IsaKernel, LANES};
use crate::cpu::tensor_rows::fill_rows;
use crate::cpu::TensorRows;
use crate::ChainRows;

/// The terms of a split number.
pub(crate) const TERMS: usize = 3;

/// Rows of a tile register of AMX.
pub(crate) const TILE_ROWS: usize = 16;

/// Rows of a row tile: two tile registers.
pub(crate) const SPLIT_TILE_ROWS: usize = 2 * TILE_ROWS;

const _: () = assert!(MC.is_multiple_of(SPLIT_TILE_ROWS), "tasks start at row tiles");

/// Up to this many rows are multiplied with the numbers of quantized weights by multiply-adds: converting the numbers to
/// bf16 for AMX would take longer.
pub(crate) const FEW_ROWS: usize = 2;

/// Terms below this, 2^-110, are zero. Sums of products with integers are then zero or large enough that they are no
/// subnormal numbers, which AMX replaces by zero and multiply-adds do not.
const SMALLEST_TERM: f32 = f32::from_bits((127 - 110) << 23);

/// Inputs that are multiplied at a time. This much of a row tile, 24 KiB, stays in the L1 cache for several panels.
pub(crate) const SPLIT_KC: usize = 128;

/// One row of a tile register: a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct TileRow([u16; TILE_DEPTH]);

impl TileRow {
    #[inline(always)]
    fn widen(&self) -> [f32; TILE_DEPTH] {
        self.0.map(|bits| f32::from_bits(u32::from(bits) << 16))
    }
}

/// The inputs x_<=i of some rows, split, in row tiles of up to [`SPLIT_TILE_ROWS`] rows. A row tile has, for every
/// [`TILE_DEPTH`] inputs and term, one [`TileRow`] per row.
pub(crate) struct SplitLhs {
    data: Vec<TileRow>,
    rows: usize,
    /// Tile registers along the inputs.
    depth_tiles: usize,
    /// Per row tile and [`TILE_DEPTH`] inputs, the sum of the inputs of each row; empty unless asked for.
    sums: Vec<f32>,
    /// `data` in f32, if there are no more than [`FEW_ROWS`] rows and it was asked for.
    wide: Vec<[f32; TILE_DEPTH]>,
}

impl SplitLhs {
    /// Packs the rows of `chain` with the inputs of all chains up to it. `x[j]` is chain j's `[rows, width]`.
    pub(crate) fn pack(
        x: &[TensorRows<f32>],
        rows: &ChainRows,
        chain: usize,
        operand: TileOperand,
    ) -> Self {
        let inputs: usize = x[..=chain].iter().map(TensorRows::width).sum();
        let (row_count, depth_tiles) = (rows.count(chain), inputs.div_ceil(TILE_DEPTH));
        let len = row_count * depth_tiles * TERMS;
        let mut data = Vec::with_capacity(len);
        let tile_len = SPLIT_TILE_ROWS * depth_tiles * TERMS;
        let pack_tile = |_: &mut (), tile: usize, to: &mut [MaybeUninit<TileRow>]| {
            let first = tile * SPLIT_TILE_ROWS;
            let tile_rows = SPLIT_TILE_ROWS.min(row_count - first);
            for row in 0..tile_rows {
                let chains = x[..=chain].iter().enumerate();
                let inputs =
                    chains.map(|(earlier, x)| x.row(rows.row_in(chain, earlier, first + row)));
                arch::run(SplitRow { inputs, to: &mut to[row..], stride: tile_rows });
            }
        };
        fill_rows(&mut data.spare_capacity_mut()[..len], tile_len, || (), pack_tile);
        // SAFETY: every row of every row tile writes its tile rows of all depth tiles and terms.
        unsafe { data.set_len(len) };
        let mut lhs =
            Self { data, rows: row_count, depth_tiles, sums: Vec::new(), wide: Vec::new() };
        if let TileOperand::Numbers { min } = operand {
            if min {
                lhs.sums = lhs.sums_of_terms();
            }
            if row_count <= FEW_ROWS {
                lhs.wide = lhs.data.iter().map(TileRow::widen).collect();
            }
        }
        lhs
    }

    /// The sums of the inputs, per row tile and [`TILE_DEPTH`] inputs.
    fn sums_of_terms(&self) -> Vec<f32> {
        let mut sums = vec![0.0; self.rows * self.depth_tiles];
        fill_rows(
            &mut sums,
            SPLIT_TILE_ROWS * self.depth_tiles,
            || (),
            |_, tile, sums| {
                let tile_rows = sums.len() / self.depth_tiles;
                let tile = self.tile(tile, 0).chunks_exact(TERMS * tile_rows);
                for (terms, sums) in tile.zip(sums.chunks_exact_mut(tile_rows)) {
                    arch::run(SumTerms { terms, sums });
                }
            },
        );
        sums
    }

    /// The terms of the [`TILE_DEPTH`] inputs from `depth` on in f32, row after row of each term; none with more than
    /// [`FEW_ROWS`] rows.
    #[inline(always)]
    pub(crate) fn wide(&self, depth: usize) -> &[[f32; TILE_DEPTH]] {
        let len = TERMS * self.rows;
        self.wide.get(depth / TILE_DEPTH * len..).map_or(&[], |wide| &wide[..len])
    }

    /// The sums of the [`TILE_DEPTH`] inputs from `depth` on, of the rows of row tile `tile`.
    #[inline(always)]
    pub(crate) fn sums(&self, tile: usize, depth: usize) -> &[f32] {
        let first = tile * SPLIT_TILE_ROWS;
        let tile_rows = SPLIT_TILE_ROWS.min(self.rows - first);
        let start = first * self.depth_tiles + depth / TILE_DEPTH * tile_rows;
        self.sums.get(start..start + tile_rows).unwrap_or_default()
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn row_bytes(&self) -> usize {
        self.depth_tiles * TERMS * size_of::<TileRow>()
    }

    /// The part of row tile `tile` with the inputs from `depth` on, a multiple of [`TILE_DEPTH`].
    #[inline(always)]
    pub(crate) fn tile(&self, tile: usize, depth: usize) -> &[TileRow] {
        let first = tile * SPLIT_TILE_ROWS;
        let tile_rows = SPLIT_TILE_ROWS.min(self.rows - first);
        let start = first * self.depth_tiles * TERMS;
        let tile = &self.data[start..][..tile_rows * self.depth_tiles * TERMS];
        &tile[depth / TILE_DEPTH * TERMS * tile_rows..]
    }
}

/// Splits a row into its tile rows, one of every `stride` in `to`: [`TERMS`] per [`TILE_DEPTH`] inputs. The last ones are
/// padded with zeros.
struct SplitRow<'a, X> {
    /// The row of every chain.
    inputs: X,
    to: &'a mut [MaybeUninit<TileRow>],
    stride: usize,
}

impl<'x, X: Iterator<Item = &'x [f32]>> IsaKernel for SplitRow<'_, X> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { inputs, to, stride } = self;
        let mut next = 0;
        // The inputs of several chains may share a tile row.
        let (mut pending, mut count) = ([0.0; TILE_DEPTH], 0);
        for inputs in inputs {
            let missing = (TILE_DEPTH - count) % TILE_DEPTH;
            let (first, rest) = inputs.split_at(missing.min(inputs.len()));
            pending[count..][..first.len()].copy_from_slice(first);
            count += first.len();
            if count == TILE_DEPTH {
                write_terms(&pending, to, stride, &mut next);
                count = 0;
            }
            let (whole, last) = rest.as_chunks();
            for numbers in whole {
                write_terms(numbers, to, stride, &mut next);
            }
            pending[count..][..last.len()].copy_from_slice(last);
            count += last.len();
        }
        if count > 0 {
            pending[count..].fill(0.0);
            write_terms(&pending, to, stride, &mut next);
        }
    }
}

/// Writes the terms of some numbers to `to`, `stride` apart, from `next` on.
#[inline(always)]
fn write_terms(
    numbers: &[f32; TILE_DEPTH],
    to: &mut [MaybeUninit<TileRow>],
    stride: usize,
    next: &mut usize,
) {
    for terms in split(numbers) {
        to[*next].write(terms);
        *next += stride;
    }
}

/// Sums the inputs of each row of a row tile at one depth tile, from their terms.
struct SumTerms<'a> {
    terms: &'a [TileRow],
    sums: &'a mut [f32],
}

impl IsaKernel for SumTerms<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let rows = self.sums.len();
        for (row, to) in self.sums.iter_mut().enumerate() {
            let mut lanes = [0.0; LANES];
            let first = self.terms[row].widen();
            let second = self.terms[rows + row].widen();
            let third = self.terms[2 * rows + row].widen();
            for half in [0, LANES] {
                for (lane, sum) in lanes.iter_mut().enumerate() {
                    let at = half + lane;
                    // The smallest terms first: the sum of all three is the number again.
                    *sum += (third[at] + second[at]) + first[at];
                }
            }
            *to = sum(lanes);
        }
    }
}

/// Three bf16 numbers per number, which add up to it except for terms below [`SMALLEST_TERM`]. Those of an infinite number
/// add up to NaN.
#[inline(always)]
fn split(numbers: &[f32; TILE_DEPTH]) -> [TileRow; TERMS] {
    let mut terms = [TileRow([0; TILE_DEPTH]); TERMS];
    for (index, &number) in numbers.iter().enumerate() {
        let upper = |number: f32| f32::from_bits(number.to_bits() & 0xffff_0000);
        let first = upper(number);
        let second = upper(number - first);
        let third = number - first - second;
        let bits = |term: f32| {
            if term.abs() < SMALLEST_TERM {
                0
            } else {
                (term.to_bits() >> 16) as u16
            }
        };
        terms[0].0[index] = bits(first);
        terms[1].0[index] = bits(second);
        terms[2].0[index] = bits(third);
    }
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terms_add_up_to_the_number() {
        let numbers = [0., 1., -1. / 3., 1e-25, f32::MAX, 16_777_215.];
        for number in numbers {
            let terms = split(&[number; TILE_DEPTH]).map(|term| value(term.0[5]));
            assert_eq!(terms.iter().sum::<f64>(), f64::from(number));
        }
        assert_eq!(split(&[f32::MIN_POSITIVE; TILE_DEPTH]).map(|term| value(term.0[5])), [0.; 3]);
        let infinite = split(&[f32::INFINITY; TILE_DEPTH]).map(|term| value(term.0[5]));
        assert!(infinite.iter().sum::<f64>().is_nan());
    }

    /// A number of bf16 from its bits.
    fn value(bits: u16) -> f64 {
        f64::from(f32::from_bits(u32::from(bits) << 16))
    }
}
