//! The rows of a planned tensor, put together from the rectangles that lie side by side in them.

use std::collections::BTreeSet;
use std::ops::Range;

use safetensors::Dtype;

use crate::block::Block;
use crate::error::CheckpointError;
use crate::normal::NormalRows;
use crate::plan::{Content, PlannedTensor, Rectangle};
use crate::source::Source;
use crate::values::{from_f32, to_f32};

/// Rows of a tensor in which every rectangle takes part with all of the rows or with none.
pub(crate) struct Strip<'a> {
    pub rows: Range<usize>,
    tensor: &'a PlannedTensor,
    /// From left to right.
    across: Vec<&'a Rectangle>,
}

impl<'a> Strip<'a> {
    /// The strips of `tensor` from top to bottom.
    pub fn all(tensor: &'a PlannedTensor) -> Vec<Self> {
        let (height, _) = tensor.rows_and_columns();
        let mut cuts = BTreeSet::from([0, height]);
        cuts.extend(tensor.rectangles.iter().flat_map(|r| [r.rows.start, r.rows.end]));
        let cuts: Vec<_> = cuts.into_iter().collect();
        let strip = |pair: &[usize]| {
            let rows = pair[0]..pair[1];
            let takes_part = |r: &&Rectangle| r.rows.start <= rows.start && rows.end <= r.rows.end;
            let mut across: Vec<_> = tensor.rectangles.iter().filter(takes_part).collect();
            across.sort_by_key(|rectangle| rectangle.columns.start);
            Self { rows, tensor, across }
        };
        cuts.windows(2).map(strip).collect()
    }

    /// The source's weights for each rectangle; None where it needs none.
    pub fn open<'s>(&self, source: &'s Source) -> Result<Vec<Option<Block<'s>>>, CheckpointError> {
        let open = |rectangle: &&Rectangle| match &rectangle.content {
            Content::Source(tensor) => source.tensor(tensor).map(Some),
            _ => Ok(None),
        };
        self.across.iter().map(open).collect()
    }

    /// The strip with the weights that [`Self::open`] gave.
    pub fn fill<'b>(&'b self, blocks: &'b [Option<Block<'_>>]) -> FilledStrip<'b> {
        let dtype = self.tensor.dtype;
        let values = self.across.iter().zip(blocks).map(|(rectangle, block)| {
            match (&rectangle.content, block) {
                (Content::Normal(normal), _) => {
                    Values::Normal(Box::new(NormalRows::new(*normal, rectangle.columns.len())))
                }
                (Content::Ones, _) => Values::same(&vec![1.; rectangle.columns.len()], dtype),
                (Content::Source(_), Some(block)) => Values::of_block(block, rectangle),
                (Content::Source(_) | Content::Zeros, _) => {
                    Values::same(&vec![0.; rectangle.columns.len()], dtype)
                }
            }
        });
        let across = self.across.iter().copied().zip(values).collect();
        FilledStrip { tensor: self.tensor, across, row: Vec::new() }
    }
}

/// A strip whose rows can be written.
pub(crate) struct FilledStrip<'a> {
    tensor: &'a PlannedTensor,
    across: Vec<(&'a Rectangle, Values<'a>)>,
    /// The values of one rectangle's row that are to be cast.
    row: Vec<f32>,
}

impl FilledStrip<'_> {
    /// Appends row `row` of the tensor to `out`. Returns how many finite values are infinite in
    /// the tensor's dtype.
    pub fn push_row(&mut self, row: usize, out: &mut Vec<u8>) -> usize {
        let begin = out.len();
        let dtype = self.tensor.dtype;
        let size = dtype.bitsize() / 8;
        let mut overflows = 0;
        for (rectangle, values) in &mut self.across {
            out.resize(begin + rectangle.columns.start * size, 0);
            let row = row - rectangle.rows.start;
            self.row.clear();
            match values {
                Values::Same(bytes) => out.extend_from_slice(bytes),
                Values::Weights { rows, dtype: from } if *from == dtype => {
                    out.extend_from_slice(rows[row]);
                }
                Values::Weights { rows, dtype: from } => {
                    to_f32(*from, rows[row], &mut self.row);
                    overflows += from_f32(&self.row, dtype, out);
                }
                Values::Normal(normal) => {
                    normal.push_row(row, &mut self.row);
                    overflows += from_f32(&self.row, dtype, out);
                }
            }
        }
        out.resize(begin + self.tensor.row_len(), 0);
        overflows
    }
}

/// What one rectangle contributes to its rows.
enum Values<'a> {
    /// The same bytes to each.
    Same(Vec<u8>),
    Weights {
        rows: Vec<&'a [u8]>,
        dtype: Dtype,
    },
    Normal(Box<NormalRows>),
}

impl<'a> Values<'a> {
    fn same(row: &[f32], dtype: Dtype) -> Self {
        let mut bytes = Vec::new();
        from_f32(row, dtype, &mut bytes);
        Self::Same(bytes)
    }

    fn of_block(block: &'a Block<'_>, rectangle: &Rectangle) -> Self {
        let dtype = block.dtype();
        let row_len = rectangle.columns.len() * dtype.bitsize() / 8;
        Self::Weights {
            rows: block.pieces().flat_map(|piece| piece.chunks(row_len)).collect(),
            dtype,
        }
    }
}
