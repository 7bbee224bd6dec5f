//! The lhs operand of AMX: activations as sums of bf16 numbers.
//!
//! An f32 has 24 significant bits and a bf16 has 8, so an f32 is the sum of three bf16 numbers: its upper 8 bits, the
//! next 8 and the last 8, as long as they are not below 2^-110 ([`write_terms`]). The products of the three with a bf16
//! weight are exact in f32. Three products in bf16 thus multiply f32 activations, without rounding them first. With
//! [`MatmulPrecision::Bf16`] there is a single bf16 number, the activation rounded.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::lhs::LhsRows;
use super::{TileOperand, MC, TILE_DEPTH};
use crate::cpu::arch::bf16_terms::write_terms;
use crate::MatmulPrecision;

impl MatmulPrecision {
    /// The bf16 numbers that an activation is split into.
    pub(crate) const fn terms(self) -> usize {
        match self {
            Self::F32 => 3,
            Self::Bf16 => 1,
        }
    }
}

/// Rows of a tile register of AMX.
pub(crate) const TILE_ROWS: usize = 16;

/// Rows of a row tile: two tile registers.
pub(crate) const SPLIT_TILE_ROWS: usize = 2 * TILE_ROWS;

const _: () = assert!(MC.is_multiple_of(SPLIT_TILE_ROWS), "tasks start at row tiles");

/// Up to this many rows are multiplied with the numbers of quantized weights by multiply-adds: converting the numbers to
/// bf16 for AMX would take longer.
pub(crate) const FEW_ROWS: usize = 2;

/// Inputs that are multiplied at a time. This much of a row tile, 24 KiB, stays in the L1 cache for several panels.
pub(crate) const SPLIT_KC: usize = 128;

/// One row of a tile register: a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct TileRow(pub(crate) [u16; TILE_DEPTH]);

impl TileRow {
    #[inline(always)]
    fn widen(&self) -> [f32; TILE_DEPTH] {
        self.0.map(|bits| f32::from_bits(u32::from(bits) << 16))
    }
}

/// Some inputs of some rows of an lhs, split, in row tiles of up to [`SPLIT_TILE_ROWS`] rows. A row tile has, for every
/// [`TILE_DEPTH`] inputs and term, one [`TileRow`] per row.
#[derive(Default)]
pub(crate) struct SplitLhs {
    data: Vec<TileRow>,
    rows: usize,
    /// The terms of a number.
    terms: usize,
    /// Tile registers along the inputs.
    depth_tiles: usize,
    /// Per row tile and [`TILE_DEPTH`] inputs, the sum of the inputs of each row; empty if it was not asked for.
    sums: Vec<f32>,
    /// `data` in f32, if there are no more than [`FEW_ROWS`] rows and it was asked for.
    wide: Vec<[f32; TILE_DEPTH]>,
}

impl SplitLhs {
    /// Splits the inputs in `depth` of some rows, in place of what was here before.
    pub(crate) fn split(
        &mut self,
        lhs: &LhsRows,
        rows: Range<usize>,
        depth: Range<usize>,
        operand: TileOperand,
    ) {
        self.rows = rows.len();
        self.depth_tiles = depth.len().div_ceil(TILE_DEPTH);
        self.terms = lhs.precision().terms();
        let len = self.rows * self.depth_tiles * self.terms;
        self.data.clear();
        self.data.reserve(len);
        let with_sums = operand == TileOperand::Numbers { min: true };
        self.sums.clear();
        self.sums.resize(if with_sums { self.rows * self.depth_tiles } else { 0 }, 0.0);
        let to = &mut self.data.spare_capacity_mut()[..len];
        for first in (0..self.rows).step_by(SPLIT_TILE_ROWS) {
            let tile_rows = SPLIT_TILE_ROWS.min(self.rows - first);
            for row in first..first + tile_rows {
                let start = first * self.depth_tiles + row - first;
                let target = RowTarget {
                    to: &mut to[self.terms * first * self.depth_tiles + row - first..],
                    sums: self.sums.get_mut(start..).unwrap_or_default(),
                    stride: tile_rows,
                    depth_tiles: self.depth_tiles,
                };
                let inputs = lhs.inputs_of(rows.start + row, &depth);
                // SAFETY: an lhs is split only if AMX is available, and with it AVX-512 and BW.
                unsafe {
                    match (self.terms, with_sums) {
                        (1, false) => split_row::<1, false>(inputs, target),
                        (1, true) => split_row::<1, true>(inputs, target),
                        (_, false) => split_row::<3, false>(inputs, target),
                        (_, true) => split_row::<3, true>(inputs, target),
                    }
                }
            }
        }
        // SAFETY: every row of every row tile has written its tile rows of all depth tiles and terms.
        unsafe { self.data.set_len(len) };
        self.wide.clear();
        if operand != TileOperand::Weights && self.rows <= FEW_ROWS {
            self.wide.extend(self.data.iter().map(TileRow::widen));
        }
    }

    /// The terms of the [`TILE_DEPTH`] inputs from `depth` on in f32, row after row of each term; none with more than
    /// [`FEW_ROWS`] rows.
    #[inline(always)]
    pub(crate) fn wide(&self, depth: usize) -> &[[f32; TILE_DEPTH]] {
        let len = self.terms * self.rows;
        self.wide.get(depth / TILE_DEPTH * len..).map_or(&[], |wide| &wide[..len])
    }

    /// The sums of the inputs from `depth` on, of row tile `tile`: per [`TILE_DEPTH`] inputs, one of each row.
    #[inline(always)]
    pub(crate) fn sums(&self, tile: usize, depth: usize) -> &[f32] {
        let first = tile * SPLIT_TILE_ROWS;
        let tile_rows = SPLIT_TILE_ROWS.min(self.rows - first);
        let start = first * self.depth_tiles + depth / TILE_DEPTH * tile_rows;
        let end = (first + tile_rows) * self.depth_tiles;
        self.sums.get(start..end).unwrap_or_default()
    }

    /// Bytes of a split row.
    pub(crate) fn row_bytes(inputs: usize, precision: MatmulPrecision) -> usize {
        inputs.div_ceil(TILE_DEPTH) * precision.terms() * size_of::<TileRow>()
    }

    /// The part of row tile `tile` with the inputs from `depth` on, a multiple of [`TILE_DEPTH`].
    #[inline(always)]
    pub(crate) fn tile(&self, tile: usize, depth: usize) -> &[TileRow] {
        let first = tile * SPLIT_TILE_ROWS;
        let tile_rows = SPLIT_TILE_ROWS.min(self.rows - first);
        let start = first * self.depth_tiles * self.terms;
        let tile = &self.data[start..][..tile_rows * self.depth_tiles * self.terms];
        &tile[depth / TILE_DEPTH * self.terms * tile_rows..]
    }
}

/// Where the tile rows of one row go.
struct RowTarget<'a> {
    /// From the first tile row of the row on; the next one of the same row is `stride` after it.
    to: &'a mut [MaybeUninit<TileRow>],
    /// From the first sum of the row on; likewise.
    sums: &'a mut [f32],
    stride: usize,
    depth_tiles: usize,
}

/// Splits a row, the inputs of each chain: `TERMS` tile rows per [`TILE_DEPTH`] inputs and, if `SUMS`, one sum. The last
/// ones are padded with zeros.
///
/// # Safety
/// The processor must have AVX-512 with BW.
///
/// # Panics
/// If there is no place for all inputs.
#[target_feature(enable = "avx512f,avx512bw,avx2")]
unsafe fn split_row<'x, const TERMS: usize, const SUMS: bool>(
    chains: impl Iterator<Item = &'x [f32]>,
    target: RowTarget,
) {
    let RowTarget { to, sums, stride, depth_tiles } = target;
    let (last_row, last_sum) = match depth_tiles {
        0 => (0, 0),
        tiles => ((TERMS * tiles - 1) * stride, (tiles - 1) * stride),
    };
    assert!(last_row < to.len() && (!SUMS || last_sum < sums.len()));
    let (to, sums, mut tiles) = (to.as_mut_ptr(), sums.as_mut_ptr(), 0..depth_tiles);
    // The inputs of several chains may share a tile row.
    let (mut pending, mut count) = ([0.0; TILE_DEPTH], 0);
    macro_rules! write {
        ($numbers:expr) => {
            let at = tiles.next().expect("a place for all inputs") * stride;
            // SAFETY: the caller guarantees the instructions. The lengths are checked above for all depth tiles.
            unsafe {
                let sum = write_terms::<TERMS, SUMS>($numbers, to.add(TERMS * at).cast(), stride);
                if SUMS {
                    sums.add(at).write(sum);
                }
            }
        };
    }
    for inputs in chains {
        let missing = (TILE_DEPTH - count) % TILE_DEPTH;
        let (first, rest) = inputs.split_at(missing.min(inputs.len()));
        pending[count..][..first.len()].copy_from_slice(first);
        count += first.len();
        if count == TILE_DEPTH {
            write!(&pending);
            count = 0;
        }
        let (whole, last) = rest.as_chunks();
        for numbers in whole {
            write!(numbers);
        }
        pending[count..][..last.len()].copy_from_slice(last);
        count += last.len();
    }
    if count > 0 {
        pending[count..].fill(0.0);
        write!(&pending);
    }
    assert!(tiles.next().is_none(), "all tile rows are written");
}
