//! The lhs operand: activations packed into micro-panels.

use super::{KC, MR};
use crate::cpu::tensor_rows::fill_rows;
use crate::cpu::TensorRows;
use crate::ChainRows;

/// The inputs x_<=i of some rows, as micro-panels of up to [`MR`] rows by [`KC`] inputs: per
/// [`MR`] rows, micro-panel after micro-panel along the inputs, row-major within each. The inputs
/// are those of chains 1 to i, concatenated.
pub(crate) struct LhsPanels {
    data: Vec<f32>,
    rows: usize,
    /// Micro-panels along the inputs.
    depth_panels: usize,
}

impl LhsPanels {
    /// Packs the rows of `chain` with the inputs of all chains up to it. `x[j]` is chain j's
    /// `[rows, width]`.
    pub(crate) fn pack(x: &[TensorRows<f32>], rows: &ChainRows, chain: usize) -> Self {
        let inputs: usize = x[..=chain].iter().map(TensorRows::width).sum();
        let (row_count, depth_panels) = (rows.count(chain), inputs.div_ceil(KC));
        let mut panels =
            Self { data: vec![0.0; row_count * depth_panels * KC], rows: row_count, depth_panels };
        let group_len = (MR * depth_panels * KC).max(1);
        let pack_group = |_: &mut (), group: usize, data: &mut [f32]| {
            let group_rows = MR.min(row_count - group * MR);
            for row in 0..group_rows {
                let mut input = 0;
                for (lower, x) in x[..=chain].iter().enumerate() {
                    let from = x.row(rows.row_in(chain, lower, group * MR + row));
                    pack_row(from, input, row, group_rows, data);
                    input += from.len();
                }
            }
        };
        fill_rows(&mut panels.data, group_len, || (), pack_group);
        panels
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The number of groups of [`MR`] rows.
    pub(crate) fn groups(&self) -> usize {
        self.rows.div_ceil(MR)
    }

    /// The number of rows of `group`: [`MR`], or fewer in the last.
    #[inline(always)]
    pub(crate) fn group_rows(&self, group: usize) -> usize {
        MR.min(self.rows - group * MR)
    }

    /// The micro-panel of `group` with the inputs from `depth_panel * KC` on.
    #[inline(always)]
    pub(crate) fn micro_panel(&self, group: usize, depth_panel: usize) -> &[[f32; KC]] {
        let rows = self.group_rows(group);
        let start = (group * MR * self.depth_panels + depth_panel * rows) * KC;
        self.data[start..start + rows * KC].as_chunks().0
    }
}

/// Copies part of a row, its inputs from `input` on, into a group of `rows` rows.
fn pack_row(mut from: &[f32], mut input: usize, row: usize, rows: usize, group: &mut [f32]) {
    while !from.is_empty() {
        let (depth_panel, offset) = (input / KC, input % KC);
        let (now, later) = from.split_at(from.len().min(KC - offset));
        let start = (depth_panel * rows + row) * KC + offset;
        group[start..start + now.len()].copy_from_slice(now);
        input += now.len();
        from = later;
    }
}
