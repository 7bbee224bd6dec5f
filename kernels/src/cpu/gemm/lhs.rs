//! The lhs operand: activations packed into micro-panels.

#[cfg(target_arch = "x86_64")]
use super::split_lhs::{SplitLhs, SPLIT_MC, SPLIT_TILE_ROWS};
use super::{PackedRhs, KC, MC, MR};
#[cfg(target_arch = "x86_64")]
use crate::cpu::arch::multiplies_bf16;
use crate::cpu::element::round_to_bf16;
use crate::cpu::tensor_rows::fill_rows;
use crate::cpu::TensorRows;
use crate::{ChainRows, MatmulPrecision};

/// Whether an lhs of this many bytes stays in the L2 cache from panel to panel.
pub(crate) fn fits_cache(bytes: usize) -> bool {
    bytes <= 256 << 10
}

/// The lhs of a product.
pub(crate) enum Lhs {
    /// Packed for the micro-kernel.
    Panels(LhsPanels),
    /// Split into bf16 numbers.
    #[cfg(target_arch = "x86_64")]
    Split(SplitLhs),
}

impl Lhs {
    /// The rows of `chain` with the inputs of all chains up to it, at some precision, for weights of type `W`. `x[j]` is
    /// chain j's `[rows, width]`.
    pub(crate) fn pack<W: PackedRhs>(
        x: &[TensorRows<f32>],
        rows: &ChainRows,
        chain: usize,
        precision: MatmulPrecision,
    ) -> Self {
        #[cfg(target_arch = "x86_64")]
        if multiplies_bf16(W::TILE_OPERAND, precision) {
            return Self::Split(SplitLhs::split(x, rows, chain, precision, W::TILE_OPERAND));
        }
        Self::Panels(LhsPanels::pack(x, rows, chain, precision))
    }

    /// Whether this many rows stay in the cache from panel to panel.
    pub(crate) fn stays_in_cache(&self, rows: usize) -> bool {
        match self {
            Self::Panels(panels) => fits_cache(rows * panels.depth_panels * KC * size_of::<f32>()),
            #[cfg(target_arch = "x86_64")]
            Self::Split(lhs) => lhs.stays_in_cache(rows),
        }
    }

    /// Rows of a row tile. Each but the last has as many.
    pub(crate) fn tile_rows(&self) -> usize {
        match self {
            Self::Panels(_) => MR,
            #[cfg(target_arch = "x86_64")]
            Self::Split(_) => SPLIT_TILE_ROWS,
        }
    }

    /// The most rows of a task.
    pub(crate) fn max_task_rows(&self) -> usize {
        match self {
            Self::Panels(_) => MC,
            #[cfg(target_arch = "x86_64")]
            Self::Split(_) => SPLIT_MC,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Panels(panels) => panels.rows,
            #[cfg(target_arch = "x86_64")]
            Self::Split(lhs) => lhs.rows(),
        }
    }
}

/// The inputs x_<=i of some rows, as micro-panels of up to [`MR`] rows by [`KC`] inputs: per row tile of [`MR`] rows,
/// micro-panel after micro-panel along the inputs, row-major within each. The inputs are those of chains 1 to i,
/// concatenated.
pub(crate) struct LhsPanels {
    data: Vec<f32>,
    rows: usize,
    /// Micro-panels along the inputs.
    depth_panels: usize,
}

impl LhsPanels {
    fn pack(
        x: &[TensorRows<f32>],
        rows: &ChainRows,
        chain: usize,
        precision: MatmulPrecision,
    ) -> Self {
        let inputs: usize = x[..=chain].iter().map(TensorRows::width).sum();
        let (row_count, depth_panels) = (rows.count(chain), inputs.div_ceil(KC));
        let mut panels =
            Self { data: vec![0.0; row_count * depth_panels * KC], rows: row_count, depth_panels };
        let tile_len = (MR * depth_panels * KC).max(1);
        let pack_tile = |_: &mut (), tile: usize, data: &mut [f32]| {
            let tile_rows = MR.min(row_count - tile * MR);
            for row in 0..tile_rows {
                let mut input = 0;
                for (earlier, x) in x[..=chain].iter().enumerate() {
                    let from = x.row(rows.row_in(chain, earlier, tile * MR + row));
                    pack_row(from, input, row, tile_rows, data);
                    input += from.len();
                }
            }
            if precision == MatmulPrecision::Bf16 {
                data.iter_mut().for_each(|number| *number = round_to_bf16(*number));
            }
        };
        fill_rows(&mut panels.data, tile_len, || (), pack_tile);
        panels
    }

    /// The micro-panel of row tile `tile` with the inputs from `depth_panel * KC` on.
    #[inline(always)]
    pub(crate) fn micro_panel(&self, tile: usize, depth_panel: usize) -> &[[f32; KC]] {
        let rows = MR.min(self.rows - tile * MR);
        let start = (tile * MR * self.depth_panels + depth_panel * rows) * KC;
        self.data[start..start + rows * KC].as_chunks().0
    }
}

/// Copies part of a row, its inputs from `input` on, into a row tile of `rows` rows.
fn pack_row(mut from: &[f32], mut input: usize, row: usize, rows: usize, tile: &mut [f32]) {
    while !from.is_empty() {
        let (depth_panel, offset) = (input / KC, input % KC);
        let (now, later) = from.split_at(from.len().min(KC - offset));
        let start = (depth_panel * rows + row) * KC + offset;
        tile[start..start + now.len()].copy_from_slice(now);
        input += now.len();
        from = later;
    }
}
