//! Writes to the paged KV cache on a GPU.

use std::ops::Range;

use candle_core::{Result, Tensor};
use colm_cuda::RopeTable;

use super::rope::upload_positions;
use super::upload_cache;
use crate::{KvBlocks, Slots};

/// [`KvBlocks::write`], with checked arguments.
pub(crate) fn write(
    kv: &KvBlocks,
    heads: Range<usize>,
    rows: (&Tensor, &Tensor),
    slots: &Slots,
) -> Result<()> {
    launch(kv, heads, rows, slots, None)
}

/// [`KvBlocks::write_with_rope`], with checked arguments.
pub(crate) fn write_with_rope(
    kv: &KvBlocks,
    heads: Range<usize>,
    rows: (&Tensor, &Tensor),
    slots: &Slots,
    (table, positions): (&RopeTable, &[usize]),
) -> Result<()> {
    let positions = upload_positions(positions, rows.0.device())?;
    launch(kv, heads, rows, slots, Some((table, &positions)))
}

fn launch(
    kv: &KvBlocks,
    heads: Range<usize>,
    (keys, values): (&Tensor, &Tensor),
    slots: &Slots,
    rope: Option<(&RopeTable, &Tensor)>,
) -> Result<()> {
    let dtype = kv.keys().dtype();
    let keys = keys.to_dtype(dtype)?.contiguous()?;
    let values = values.to_dtype(dtype)?.contiguous()?;
    let slots = upload_cache::slots(slots.as_slice(), keys.device())?;
    colm_cuda::kv_write(&kv.for_gpu(), heads.start, (&keys, &values), &slots, rope)
}

impl KvBlocks {
    /// The cache as an argument of the launchers.
    pub(crate) fn for_gpu(&self) -> colm_cuda::KvBlocks<'_> {
        colm_cuda::KvBlocks {
            keys: self.keys(),
            values: self.values(),
            kv_heads: self.kv_head_count(),
            block_size: self.block_size(),
            head_dim: self.head_dim(),
        }
    }
}
