//! Rows in the order the product reads them.

use super::outer::ROWS;
use super::rows::fill_rows;
use super::Rows;
use crate::ChainRows;

/// Inputs worked through at a time: such a piece of a panel stays in the first-level cache while the
/// tiles pass by. Sums do not depend on it.
pub(crate) const DEPTH: usize = 256;

/// The inputs x_<=i of some rows, in tiles of up to [`ROWS`] rows: per tile and piece of [`DEPTH`]
/// inputs one row after the other. What the tiles of chain i start with are the inputs of the chains
/// below it.
pub(crate) struct Tiles {
    numbers: Vec<f32>,
    rows: usize,
    pieces: usize,
}

impl Tiles {
    /// The rows of `chain`, with the inputs of the chains up to it. `x` is per chain `[rows, width]`.
    pub(crate) fn gather(x: &[Rows<f32>], rows: &ChainRows, chain: usize) -> Self {
        let inputs: usize = x[..=chain].iter().map(Rows::width).sum();
        let (rows_count, pieces) = (rows.count(chain), inputs.div_ceil(DEPTH));
        let mut tiles =
            Self { numbers: vec![0.0; rows_count * pieces * DEPTH], rows: rows_count, pieces };
        let tile_size = (ROWS * pieces * DEPTH).max(1);
        let gather_tile = |_: &mut (), tile: usize, numbers: &mut [f32]| {
            let live = ROWS.min(rows_count - tile * ROWS);
            for row in 0..live {
                let mut input = 0;
                for (lower, x) in x[..=chain].iter().enumerate() {
                    let from = x.row(rows.place(chain, lower, tile * ROWS + row));
                    scatter(from, input, row, live, numbers);
                    input += from.len();
                }
            }
        };
        fill_rows(&mut tiles.numbers, tile_size, || (), gather_tile);
        tiles
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The number of tiles.
    pub(crate) fn count(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// How many rows `tile` has.
    #[inline(always)]
    pub(crate) fn live(&self, tile: usize) -> usize {
        ROWS.min(self.rows - tile * ROWS)
    }

    /// The rows of `tile`, for the inputs from `piece * DEPTH` on.
    #[inline(always)]
    pub(crate) fn piece(&self, tile: usize, piece: usize) -> &[[f32; DEPTH]] {
        let live = self.live(tile);
        let start = (tile * ROWS * self.pieces + piece * live) * DEPTH;
        self.numbers[start..start + live * DEPTH].as_chunks().0
    }
}

/// Puts the inputs of a row from `input` on to their places in a tile of `live` rows.
fn scatter(mut from: &[f32], mut input: usize, row: usize, live: usize, tile: &mut [f32]) {
    while !from.is_empty() {
        let (piece, at) = (input / DEPTH, input % DEPTH);
        let (now, later) = from.split_at(from.len().min(DEPTH - at));
        let start = (piece * live + row) * DEPTH + at;
        tile[start..start + now.len()].copy_from_slice(now);
        input += now.len();
        from = later;
    }
}
