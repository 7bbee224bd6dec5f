//! The paged cache on a GPU.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::remembered;
use crate::{KvBlocks, Slots};

/// [`KvBlocks::write`], for arguments it has checked.
pub(crate) fn write(
    kv: &KvBlocks,
    heads: Range<usize>,
    k: &Tensor,
    v: &Tensor,
    slots: &Slots,
) -> Result<()> {
    let dtype = kv.keys().dtype();
    let (k, v) = (k.to_dtype(dtype)?.contiguous()?, v.to_dtype(dtype)?.contiguous()?);
    let slots = remembered::slots(slots.as_slice(), k.device())?;
    colm_cuda::kv_write(&kv.on_gpu(), heads.start, &k, &v, &slots)
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
