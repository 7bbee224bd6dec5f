//! The rows of a planned tensor, assembled from the rectangles that lie side by side in them.

use std::collections::BTreeSet;
use std::ops::Range;

use safetensors::Dtype;

use crate::convert::{Fill, GaussianRows, PlannedTensor, Rectangle};
use crate::format::{from_f32, to_f32, CheckpointError};
use crate::read::{Source, TensorSlice};

/// Consecutive rows of a tensor that are covered by the same rectangles.
pub(super) struct RowBand<'a> {
    pub rows: Range<usize>,
    tensor: &'a PlannedTensor,
    /// The rectangles from left to right.
    rectangles: Vec<&'a Rectangle>,
}

impl<'a> RowBand<'a> {
    /// The bands of `tensor` from top to bottom.
    pub fn split(tensor: &'a PlannedTensor) -> Vec<Self> {
        let (height, _) = tensor.rows_and_columns();
        let mut cuts = BTreeSet::from([0, height]);
        cuts.extend(tensor.rectangles.iter().flat_map(|r| [r.rows.start, r.rows.end]));
        let cuts: Vec<_> = cuts.into_iter().collect();
        let band = |pair: &[usize]| {
            let rows = pair[0]..pair[1];
            let covers = |r: &&Rectangle| r.rows.start <= rows.start && rows.end <= r.rows.end;
            let mut rectangles: Vec<_> = tensor.rectangles.iter().filter(covers).collect();
            rectangles.sort_by_key(|rectangle| rectangle.columns.start);
            Self { rows, tensor, rectangles }
        };
        cuts.windows(2).map(band).collect()
    }

    /// The weights of the source for each rectangle; None for one that needs none.
    pub fn open<'s>(
        &self,
        source: &'s Source,
    ) -> Result<Vec<Option<TensorSlice<'s>>>, CheckpointError> {
        let open = |rectangle: &&Rectangle| match &rectangle.fill {
            Fill::Source(tensor) => source.tensor(tensor).map(Some),
            _ => Ok(None),
        };
        self.rectangles.iter().map(open).collect()
    }

    /// The band with the weights that [`Self::open`] returned.
    pub fn with_weights<'b>(&'b self, weights: &'b [Option<TensorSlice<'_>>]) -> OpenRowBand<'b> {
        let dtype = self.tensor.dtype;
        let values = self.rectangles.iter().zip(weights).map(|(rectangle, slice)| {
            match (&rectangle.fill, slice) {
                (Fill::Gaussian(gaussian), _) => Values::Gaussian(Box::new(GaussianRows::new(
                    *gaussian,
                    rectangle.columns.len(),
                ))),
                (Fill::Ones, _) => Values::constant(&vec![1.; rectangle.columns.len()], dtype),
                (Fill::Source(_), Some(slice)) => Values::of_slice(slice, rectangle),
                (Fill::Source(_) | Fill::Zeros, _) => {
                    Values::constant(&vec![0.; rectangle.columns.len()], dtype)
                }
            }
        });
        let rectangles = self.rectangles.iter().copied().zip(values).collect();
        OpenRowBand { tensor: self.tensor, rectangles, row: Vec::new() }
    }
}

/// A band whose rows can be written.
pub(super) struct OpenRowBand<'a> {
    tensor: &'a PlannedTensor,
    rectangles: Vec<(&'a Rectangle, Values<'a>)>,
    /// Scratch space for the values of a row before they are cast.
    row: Vec<f32>,
}

impl OpenRowBand<'_> {
    /// Appends row `row` of the tensor to `out`. Returns how many finite values became infinite in
    /// the dtype of the tensor.
    pub fn push_row(&mut self, row: usize, out: &mut Vec<u8>) -> usize {
        let begin = out.len();
        let dtype = self.tensor.dtype;
        let size = dtype.bitsize() / 8;
        let mut overflows = 0;
        for (rectangle, values) in &mut self.rectangles {
            out.resize(begin + rectangle.columns.start * size, 0);
            let row = row - rectangle.rows.start;
            self.row.clear();
            match values {
                Values::Constant(bytes) => out.extend_from_slice(bytes),
                Values::Weights { rows, dtype: from } if *from == dtype => {
                    out.extend_from_slice(rows[row]);
                }
                Values::Weights { rows, dtype: from } => {
                    to_f32(*from, rows[row], &mut self.row);
                    overflows += from_f32(&self.row, dtype, out);
                }
                Values::Gaussian(rows) => {
                    rows.push_row(row, &mut self.row);
                    overflows += from_f32(&self.row, dtype, out);
                }
            }
        }
        out.resize(begin + self.tensor.row_len(), 0);
        overflows
    }
}

/// What a rectangle contributes to its rows.
enum Values<'a> {
    /// The same bytes in each row.
    Constant(Vec<u8>),
    Weights {
        rows: Vec<&'a [u8]>,
        dtype: Dtype,
    },
    Gaussian(Box<GaussianRows>),
}

impl<'a> Values<'a> {
    fn constant(row: &[f32], dtype: Dtype) -> Self {
        let mut bytes = Vec::new();
        from_f32(row, dtype, &mut bytes);
        Self::Constant(bytes)
    }

    fn of_slice(slice: &'a TensorSlice<'_>, rectangle: &Rectangle) -> Self {
        let dtype = slice.dtype();
        let row_len = rectangle.columns.len() * dtype.bitsize() / 8;
        Self::Weights {
            rows: slice.pieces().flat_map(|piece| piece.chunks(row_len)).collect(),
            dtype,
        }
    }
}
