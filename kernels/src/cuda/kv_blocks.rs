//! The paged cache on a GPU.

use std::ops::Range;

use candle_core::{Result, Tensor};
use colm_cuda::RopeTable;

use super::remembered;
use super::rope::on_device;
use crate::{KvBlocks, Slots};

/// [`KvBlocks::write`] of keys and values, for arguments it has checked.
pub(crate) fn write(
    kv: &KvBlocks,
    heads: Range<usize>,
    rows: (&Tensor, &Tensor),
    slots: &Slots,
) -> Result<()> {
    launch(kv, heads, rows, slots, None)
}

/// [`KvBlocks::write_turned`], for arguments it has checked: keys are turned on their way.
pub(crate) fn write_turned(
    kv: &KvBlocks,
    heads: Range<usize>,
    rows: (&Tensor, &Tensor),
    slots: &Slots,
    (table, positions): (&RopeTable, &[usize]),
) -> Result<()> {
    let positions = on_device(positions, rows.0.device())?;
    launch(kv, heads, rows, slots, Some((table, &positions)))
}

fn launch(
    kv: &KvBlocks,
    heads: Range<usize>,
    (k, v): (&Tensor, &Tensor),
    slots: &Slots,
    turn: Option<(&RopeTable, &Tensor)>,
) -> Result<()> {
    let dtype = kv.keys().dtype();
    let (k, v) = (k.to_dtype(dtype)?.contiguous()?, v.to_dtype(dtype)?.contiguous()?);
    let slots = remembered::slots(slots.as_slice(), k.device())?;
    colm_cuda::kv_write(&kv.on_gpu(), heads.start, (&k, &v), &slots, turn)
}

impl KvBlocks {
    /// As the kernels take it.
    pub(crate) fn on_gpu(&self) -> colm_cuda::KvBlocks<'_> {
        colm_cuda::KvBlocks {
            keys: self.keys(),
            values: self.values(),
            kv_heads: self.kv_heads(),
            block_size: self.block_size(),
            head_dim: self.head_dim(),
        }
    }
}
