//! One layer of the host's paged KV cache.

use std::ops::Range;

use candle_core::{bail, DType, Result, Tensor};

use crate::cpu::kv_layout::{KeysOrValues, KvLayout, WriteRows};
use crate::cpu::tensor_rows::cpu_storage;
use crate::{Rope, Slots};

/// One layer's paged keys and values.
///
/// The host allocates two tensors and never reads them, so the order of the numbers within a KV block is up to the
/// backend. The CPU layout is defined in `cpu/kv_layout.rs`, the CUDA layout in `cuda/kv_blocks.cuh`.
#[derive(Clone, Debug)]
pub struct KvBlocks {
    keys: Tensor,
    values: Tensor,
    blocks: usize,
    kv_heads: usize,
    block_size: usize,
    head_dim: usize,
}

impl KvBlocks {
    /// A view of the host's tensors, keys `[blocks, kv_heads, d / x, block_size, x]` and values
    /// `[blocks, kv_heads, d, block_size]`, both f32, bf16 or f16, with `d` at least `head_dim`. Nothing is copied: writes
    /// go to the host's tensors, whose end is not used if `d` is larger.
    ///
    /// # Errors
    /// If the shapes are not these or do not match, if a tensor is not contiguous, or if the dtypes differ or are not
    /// supported.
    pub fn from_tensors(keys: &Tensor, values: &Tensor, head_dim: usize) -> Result<Self> {
        let (blocks, kv_heads, allocated, block_size) = match values.dims() {
            &[blocks, kv_heads, dim, block_size] if dim >= head_dim => {
                (blocks, kv_heads, dim, block_size)
            }
            dims => bail!(
                "value blocks must be [blocks, kv_heads, d, block_size] with d at least head_dim \
                 {head_dim}, not {dims:?}"
            ),
        };
        match keys.dims() {
            &[b, h, outer, s, x]
                if (b, h, s) == (blocks, kv_heads, block_size) && outer * x == allocated => {}
            dims => bail!(
                "key blocks must be [blocks, kv_heads, d / x, block_size, x], with the value \
                 blocks being {:?}, not {dims:?}",
                values.dims()
            ),
        }
        if kv_heads == 0 || block_size == 0 || head_dim == 0 {
            bail!("key and value blocks of {:?} are empty", values.dims());
        }
        if !keys.is_contiguous() || !values.is_contiguous() {
            bail!("key and value blocks must be contiguous");
        }
        if keys.dtype() != values.dtype() {
            bail!("key blocks are {:?}, value blocks {:?}", keys.dtype(), values.dtype());
        }
        if !matches!(keys.dtype(), DType::F32 | DType::BF16 | DType::F16) {
            bail!("key and value blocks must be f32, bf16 or f16, not {:?}", keys.dtype());
        }
        for blocks in [keys, values] {
            check_device(blocks)?;
        }
        let numbers = blocks * kv_heads * block_size * head_dim;
        let view = |tensor: &Tensor| {
            let used = tensor.flatten_all()?.narrow(0, 0, numbers)?;
            used.reshape((blocks, kv_heads, block_size * head_dim))
        };
        Ok(Self {
            keys: view(keys)?,
            values: view(values)?,
            blocks,
            kv_heads,
            block_size,
            head_dim,
        })
    }

    /// Writes the new rows of one chain: `keys` and `values` `[rows, heads.len(), head_dim]` go to the key/value heads
    /// `heads`, row r to slot `slots[r]`. They are cast to the dtype of the cache.
    ///
    /// # Errors
    /// If a shape does not fit or a slot is not in the cache. Then nothing is written.
    pub fn write(
        &self,
        heads: Range<usize>,
        keys: &Tensor,
        values: &Tensor,
        slots: &Slots,
    ) -> Result<()> {
        self.check_write(&heads, keys, values, slots)?;
        #[cfg(feature = "gpu")]
        if crate::cuda::accepts(&self.keys) {
            return crate::cuda::write(self, heads, (keys, values), slots);
        }
        let (layout, slots) = (self.cpu_layout(), slots.as_slice());
        let write = |tensor| WriteRows { layout, heads: heads.clone(), slots, tensor };
        let dtype = self.keys.dtype();
        let (keys, values) =
            (keys.to_dtype(dtype)?.contiguous()?, values.to_dtype(dtype)?.contiguous()?);
        self.keys.inplace_op2(&keys, &write(KeysOrValues::Keys))?;
        self.values.inplace_op2(&values, &write(KeysOrValues::Values))
    }

    /// Like [`write`](Self::write), with RoPE applied to the keys first ([`Rope::apply`]): row r of `keys` is at
    /// position `positions[r]` of its sequence. Values are not rotated.
    ///
    /// # Errors
    /// As for [`write`](Self::write) and [`Rope::apply`].
    pub fn write_with_rope(
        &self,
        heads: Range<usize>,
        keys: &Tensor,
        values: &Tensor,
        slots: &Slots,
        rope: &Rope,
        positions: &[usize],
    ) -> Result<()> {
        #[cfg(feature = "gpu")]
        if crate::cuda::accepts(&self.keys) {
            self.check_write(&heads, keys, values, slots)?;
            rope.check(keys, positions)?;
            let table = rope.gpu_table(self.keys.device())?;
            return crate::cuda::write_with_rope(
                self,
                heads,
                (keys, values),
                slots,
                (&table, positions),
            );
        }
        self.write(heads, &rope.apply(keys, positions)?, values, slots)
    }

    pub(crate) fn check_write(
        &self,
        heads: &Range<usize>,
        keys: &Tensor,
        values: &Tensor,
        slots: &Slots,
    ) -> Result<()> {
        self.check_heads(heads)?;
        let expected = [slots.row_count(), heads.len(), self.head_dim];
        for (name, rows) in [("keys", keys), ("values", values)] {
            check_device(rows)?;
            if rows.dims() != expected {
                bail!(
                    "{name} must be [rows, heads, head_dim] = {expected:?} to write heads {heads:?} \
                     at {} slots, not {:?}",
                    slots.row_count(),
                    rows.dims()
                );
            }
        }
        let end = (self.blocks * self.block_size) as i64;
        if let Some(row) = slots.as_slice().iter().position(|&slot| slot >= end) {
            bail!(
                "row {row} has slot {}, but {} blocks of {} positions have slots 0..{end}",
                slots.as_slice()[row],
                self.blocks,
                self.block_size
            );
        }
        Ok(())
    }

    /// The number of KV blocks.
    pub fn block_count(&self) -> usize {
        self.blocks
    }

    /// The number of key/value heads of the layer, of all chains.
    pub fn kv_head_count(&self) -> usize {
        self.kv_heads
    }

    /// Positions per KV block.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Numbers per head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    pub(crate) fn keys(&self) -> &Tensor {
        &self.keys
    }

    pub(crate) fn values(&self) -> &Tensor {
        &self.values
    }

    pub(crate) fn check_heads(&self, heads: &Range<usize>) -> Result<()> {
        if heads.is_empty() || heads.end > self.kv_heads {
            bail!("key/value heads {heads:?} are not within the cache's 0..{}", self.kv_heads);
        }
        Ok(())
    }

    /// The layout of a cache in CPU memory.
    pub(crate) fn cpu_layout(&self) -> KvLayout {
        KvLayout::new(self.kv_heads, self.block_size, self.head_dim)
    }
}

/// Fails for tensors on a device that this build does not compute on.
fn check_device(tensor: &Tensor) -> Result<()> {
    #[cfg(feature = "gpu")]
    if crate::cuda::accepts(tensor) {
        return Ok(());
    }
    cpu_storage(&tensor.storage_and_layout().0).map(|_| ())
}
