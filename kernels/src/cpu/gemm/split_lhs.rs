//! The lhs operand of AMX and AVX512-BF16: activations as sums of bf16 numbers.
//!
//! An f32 has 24 significant bits and a bf16 has 8, so an f32 is the sum of three bf16 numbers: its upper 8 bits, the
//! next 8 and the last 8, as long as they are not below 2^-110 ([`write_terms`]). The products of the three with a bf16
//! weight are exact in f32. Three products in bf16 thus multiply f32 activations, without rounding them first. With
//! [`MatmulPrecision::Bf16`] there is a single bf16 number, the activation rounded.

use std::cell::RefCell;
use std::ops::Range;

use super::lhs::fits_cache;
use super::{TileOperand, TILE_DEPTH};
use crate::cpu::arch::amx;
use crate::cpu::arch::bf16_terms::write_terms;
use crate::cpu::arch::{prefetch_for_write, prefetch_l1};
use crate::cpu::tensor_rows::MIN_NUMBERS_PER_TASK;
use crate::cpu::thread_pool::for_each;
use crate::cpu::TensorRows;
use crate::{ChainRows, MatmulPrecision};

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

/// The most rows of a task, as [`MC`](super::MC) for the micro-kernel: quantized weights are widened once for all of them,
/// and the accumulators of several panels stay in the L2 cache.
pub(crate) const SPLIT_MC: usize = 9 * SPLIT_TILE_ROWS;

/// Up to this many rows are multiplied with the numbers of quantized weights by multiply-adds instead of AMX: converting the
/// numbers to bf16 would take longer.
pub(crate) const WIDE_ROWS: usize = 2;

/// Inputs that are multiplied at a time. This much of a row tile, 24 KiB, stays in the L1 cache for several panels.
pub(crate) const SPLIT_KC: usize = 128;

/// Depth tiles of [`SPLIT_KC`] inputs.
pub(crate) const TILES_PER_BLOCK: usize = SPLIT_KC / TILE_DEPTH;

/// How many rows ahead inputs and their places in the lhs are prefetched while rows are split.
const PREFETCHED_ROWS: usize = 2;

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

/// A larger lhs is freed when it is dropped: it would be kept as long as its thread.
const MAX_UNUSED_BYTES: usize = 32 << 20;

thread_local! {
    /// The memory of the lhs that this thread has dropped, for the next ones: the system would have to zero the pages of new
    /// memory.
    static UNUSED: RefCell<Vec<Memory>> = const { RefCell::new(Vec::new()) };
}

/// The numbers of a [`SplitLhs`].
#[derive(Default)]
struct Memory {
    data: Vec<TileRow>,
    /// Per row tile and [`TILE_DEPTH`] inputs, the sum of the inputs of each row; empty if it was not asked for.
    sums: Vec<f32>,
    /// `data` in f32, if there are no more than [`WIDE_ROWS`] rows and it was asked for.
    wide: Vec<[f32; TILE_DEPTH]>,
}

/// The inputs x_<=i of some rows, split, in row tiles of up to [`SPLIT_TILE_ROWS`] rows. A row tile has, for every
/// [`TILE_DEPTH`] inputs and term, one [`TileRow`] per row.
pub(crate) struct SplitLhs {
    memory: Memory,
    rows: usize,
    precision: MatmulPrecision,
    /// Tile registers along the inputs.
    depth_tiles: usize,
}

impl SplitLhs {
    /// Splits the rows of `chain` with the inputs of all chains up to it, for weights of which `operand` is multiplied.
    /// `x[j]` is chain j's `[rows, width]`.
    pub(crate) fn split(
        x: &[TensorRows<f32>],
        rows: &ChainRows,
        chain: usize,
        precision: MatmulPrecision,
        operand: TileOperand,
    ) -> Self {
        let inputs: usize = x[..=chain].iter().map(TensorRows::width).sum();
        let row_count = rows.count(chain);
        let mut lhs = Self {
            memory: UNUSED.with_borrow_mut(Vec::pop).unwrap_or_default(),
            rows: row_count,
            precision,
            depth_tiles: inputs.div_ceil(TILE_DEPTH),
        };
        let with_sums = operand == TileOperand::Numbers { min: true };
        let source = Source { x, rows, chain };
        let to = lhs.make_room(with_sums);
        // A task has some blocks of a row tile, each of which is contiguous.
        let block_numbers = SPLIT_KC * row_count.clamp(1, SPLIT_TILE_ROWS);
        let blocks_per_task = MIN_NUMBERS_PER_TASK.div_ceil(block_numbers);
        let blocks = lhs.depth_tiles.div_ceil(TILES_PER_BLOCK);
        let tasks_per_tile = blocks.div_ceil(blocks_per_task);
        for_each(row_count.div_ceil(SPLIT_TILE_ROWS) * tasks_per_tile, |task| {
            let (tile, first) = (task / tasks_per_tile, task % tasks_per_tile * blocks_per_task);
            for block in first..blocks.min(first + blocks_per_task) {
                // SAFETY: an lhs is split only if AMX or AVX512-BF16 is available. Both require AVX-512 with BW.
                // `make_room` has made room for all rows, and each block of a row tile is split once.
                unsafe {
                    match (precision, with_sums) {
                        (MatmulPrecision::Bf16, false) => {
                            lhs.split_block::<1, false>(&source, tile, block, &to);
                        }
                        (MatmulPrecision::Bf16, true) => {
                            lhs.split_block::<1, true>(&source, tile, block, &to);
                        }
                        (MatmulPrecision::F32, false) => {
                            lhs.split_block::<3, false>(&source, tile, block, &to);
                        }
                        (MatmulPrecision::F32, true) => {
                            lhs.split_block::<3, true>(&source, tile, block, &to);
                        }
                    }
                }
            }
        });
        let tile_rows = lhs.tile_row_count();
        // SAFETY: every row of every row tile has written its tile rows of all depth tiles and terms.
        unsafe { lhs.memory.data.set_len(tile_rows) };
        let is_wide = operand != TileOperand::Weights && row_count <= WIDE_ROWS;
        if is_wide && amx::is_available() {
            let Memory { data, wide, .. } = &mut lhs.memory;
            wide.extend(data.iter().map(TileRow::widen));
        }
        lhs
    }

    /// Tile rows of all rows, depth tiles and terms.
    fn tile_row_count(&self) -> usize {
        self.rows * self.depth_tiles * self.precision.terms()
    }

    /// Discards what is in the memory, and makes room for all rows.
    fn make_room(&mut self, with_sums: bool) -> Targets {
        let tile_rows = self.tile_row_count();
        let Memory { data, sums, wide } = &mut self.memory;
        data.clear();
        wide.clear();
        sums.clear();
        if data.capacity() < tile_rows {
            // Not `reserve` alone, which would copy what was discarded and may take twice the memory.
            *data = Vec::new();
            data.reserve_exact(tile_rows);
        }
        sums.resize(if with_sums { self.rows * self.depth_tiles } else { 0 }, 0.0);
        Targets { tile_rows: data.as_mut_ptr(), sums: sums.as_mut_ptr() }
    }

    /// Splits block `block` of row tile `tile`: up to [`SPLIT_KC`] inputs of its rows.
    ///
    /// # Safety
    /// The processor must have AVX-512 with BW, and `TERMS` must be the terms of the precision. `to` must be of
    /// [`Self::make_room`], with room for sums if `SUMS`, and no other thread may use this block of it.
    unsafe fn split_block<const TERMS: usize, const SUMS: bool>(
        &self,
        source: &Source,
        tile: usize,
        block: usize,
        to: &Targets,
    ) {
        let first = block * TILES_PER_BLOCK;
        let depth_tiles = first..self.depth_tiles.min(first + TILES_PER_BLOCK);
        let depths = depth_tiles.start * TILE_DEPTH..depth_tiles.end * TILE_DEPTH;
        let first_row = tile * SPLIT_TILE_ROWS;
        let end_row = self.rows.min(first_row + SPLIT_TILE_ROWS);
        for row in first_row..end_row {
            let ahead = row + PREFETCHED_ROWS;
            if ahead < end_row {
                source.inputs(ahead, depths.clone()).for_each(prefetch_l1);
                self.row_target(to, ahead, depth_tiles.clone()).prefetch::<TERMS>();
            }
            let target = self.row_target(to, row, depth_tiles.clone());
            // SAFETY: the caller guarantees AVX-512 with BW, and that no other thread uses the block.
            unsafe { split_row::<TERMS, SUMS>(source.inputs(row, depths.clone()), target) };
        }
    }

    /// Where some depth tiles of row `row` go.
    fn row_target(&self, to: &Targets, row: usize, depth_tiles: Range<usize>) -> RowTarget {
        let (first, within) = (row - row % SPLIT_TILE_ROWS, row % SPLIT_TILE_ROWS);
        let stride = SPLIT_TILE_ROWS.min(self.rows - first);
        let start = first * self.depth_tiles + depth_tiles.start * stride;
        RowTarget {
            tile_rows: to.tile_rows.wrapping_add(start * self.precision.terms() + within),
            sums: to.sums.wrapping_add(start + within),
            stride,
            depth_tiles: depth_tiles.len(),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn precision(&self) -> MatmulPrecision {
        self.precision
    }

    /// The terms of the inputs at `depths`, whole depth tiles, in f32: for each depth tile, row after row of each term. None
    /// with more than [`WIDE_ROWS`] rows.
    #[inline(always)]
    pub(crate) fn wide(&self, depths: Range<usize>) -> &[[f32; TILE_DEPTH]] {
        let len = self.precision.terms() * self.rows;
        let (start, end) = (depths.start / TILE_DEPTH * len, depths.end / TILE_DEPTH * len);
        self.memory.wide.get(start..end).unwrap_or_default()
    }

    /// The sums of the inputs from `depth` on, of row tile `tile`: per [`TILE_DEPTH`] inputs, one of each row.
    #[inline(always)]
    pub(crate) fn sums(&self, tile: usize, depth: usize) -> &[f32] {
        let first = tile * SPLIT_TILE_ROWS;
        let tile_rows = SPLIT_TILE_ROWS.min(self.rows - first);
        let start = first * self.depth_tiles + depth / TILE_DEPTH * tile_rows;
        let end = (first + tile_rows) * self.depth_tiles;
        self.memory.sums.get(start..end).unwrap_or_default()
    }

    /// Whether this many rows stay in the cache from panel to panel.
    pub(crate) fn stays_in_cache(&self, rows: usize) -> bool {
        fits_cache(rows * self.depth_tiles * self.precision.terms() * size_of::<TileRow>())
    }

    /// The part of row tile `tile` with the inputs from `depth` on, a multiple of [`TILE_DEPTH`].
    #[inline(always)]
    pub(crate) fn tile(&self, tile: usize, depth: usize) -> &[TileRow] {
        let first = tile * SPLIT_TILE_ROWS;
        let tile_rows = SPLIT_TILE_ROWS.min(self.rows - first);
        let start = first * self.depth_tiles * self.precision.terms();
        let tile =
            &self.memory.data[start..][..tile_rows * self.depth_tiles * self.precision.terms()];
        &tile[depth / TILE_DEPTH * self.precision.terms() * tile_rows..]
    }
}

impl Drop for SplitLhs {
    fn drop(&mut self) {
        if self.memory.data.capacity() * size_of::<TileRow>() <= MAX_UNUSED_BYTES {
            UNUSED.with_borrow_mut(|unused| unused.push(std::mem::take(&mut self.memory)));
        }
    }
}

/// The start of the memory that rows are split to.
struct Targets {
    tile_rows: *mut TileRow,
    sums: *mut f32,
}

// SAFETY: the tasks that share it write disjoint parts of the memory.
unsafe impl Sync for Targets {}

/// The inputs x_<=i of the rows of a chain i.
struct Source<'a> {
    x: &'a [TensorRows<'a, f32>],
    rows: &'a ChainRows,
    chain: usize,
}

impl Source<'_> {
    /// The inputs of row `row` at `depths`, chain by chain. There may be fewer: the last depth tile of a row is not full.
    #[inline(always)]
    fn inputs(&self, row: usize, depths: Range<usize>) -> impl Iterator<Item = &[f32]> {
        let mut start = 0;
        self.x[..=self.chain].iter().enumerate().filter_map(move |(earlier, x)| {
            let inputs = x.row(self.rows.row_in(self.chain, earlier, row));
            let end = start + inputs.len();
            let within =
                depths.start.clamp(start, end) - start..depths.end.clamp(start, end) - start;
            start = end;
            Some(&inputs[within]).filter(|inputs| !inputs.is_empty())
        })
    }
}

/// Where depth tiles of one row go, and their sums: to these places and those `stride` after them.
struct RowTarget {
    tile_rows: *mut TileRow,
    sums: *mut f32,
    stride: usize,
    depth_tiles: usize,
}

impl RowTarget {
    #[inline(always)]
    fn prefetch<const TERMS: usize>(&self) {
        for tile_row in 0..TERMS * self.depth_tiles {
            prefetch_for_write(self.tile_rows.wrapping_add(tile_row * self.stride), 1);
        }
    }
}

/// Splits inputs of a row, those of each chain: `TERMS` tile rows per [`TILE_DEPTH`] inputs and, if `SUMS`, one sum. The last
/// ones are padded with zeros.
///
/// # Safety
/// The processor must have AVX-512 with BW. From `target.tile_rows` on, and with `SUMS` from `target.sums` on, there must be
/// memory for all depth tiles at this stride, which no other thread uses.
///
/// # Panics
/// If the inputs have more or fewer depth tiles.
#[target_feature(enable = "avx512f,avx512bw,avx2")]
unsafe fn split_row<'x, const TERMS: usize, const SUMS: bool>(
    chains: impl Iterator<Item = &'x [f32]>,
    target: RowTarget,
) {
    let RowTarget { tile_rows, sums, stride, depth_tiles } = target;
    let mut tiles = 0..depth_tiles;
    // The inputs of several chains may share a tile row.
    let (mut pending, mut count) = ([0.0; TILE_DEPTH], 0);
    macro_rules! write {
        ($numbers:expr) => {
            let at = tiles.next().expect("a place for all inputs") * stride;
            // SAFETY: the caller guarantees the instructions and the memory of the depth tiles.
            unsafe {
                let sum = write_terms::<TERMS, SUMS>($numbers, tile_rows.add(TERMS * at), stride);
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
