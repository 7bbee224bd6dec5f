//! One layer of the host's paged KV cache, and its layout on the CPU.

use std::ops::Range;

use candle_core::backend::BackendStorage;
use candle_core::{bail, CpuStorage, DType, InplaceOp2, Layout, Result, Tensor};

use crate::cpu::gemm::NR;
use crate::cpu::tensor_rows::cpu_storage;
use crate::cpu::{for_dtype, Element};
use crate::{Rope, Slots};

/// Fails for tensors on a device that this build does not compute on.
fn check_device(tensor: &Tensor) -> Result<()> {
    #[cfg(feature = "gpu")]
    if crate::cuda::accepts(tensor) {
        return Ok(());
    }
    cpu_storage(&tensor.storage_and_layout().0).map(|_| ())
}

/// One layer's paged keys and values.
///
/// The host allocates two tensors and never reads them, so the order of the numbers within a KV
/// block is up to the backend. On the CPU it is the packed panels that the GEMM micro-kernel reads
/// sequentially. Per KV block and head:
///
/// - keys: `[block_size / c, head_dim, c]`, with c positions interleaved, where c is the largest
///   divisor of `block_size` up to 32;
/// - values: per 32 elements of a head, `[block_size, 32]`. The last panel is narrower if `head_dim`
///   is not a multiple of 32.
///
/// This file is the only one that knows the CPU layout. The CUDA kernels use a plain row per
/// position instead; that layout is defined in `cuda/kv_blocks.cuh`.
#[derive(Clone, Debug)]
pub struct KvBlocks {
    keys: Tensor,
    values: Tensor,
    blocks: usize,
    kv_heads: usize,
    block_size: usize,
    head_dim: usize,
    /// How many positions of keys are interleaved: c above.
    key_interleave: usize,
}

impl KvBlocks {
    /// A view of the host's tensors, keys `[blocks, kv_heads, head_dim / x, block_size, x]` and
    /// values `[blocks, kv_heads, head_dim, block_size]`, both f32, bf16 or f16. Nothing is copied:
    /// writes go to the host's tensors.
    ///
    /// # Errors
    /// If the shapes are not these or do not match, if a tensor is not contiguous, or if the
    /// dtypes differ or are not supported.
    pub fn from_host(keys: &Tensor, values: &Tensor, head_dim: usize) -> Result<Self> {
        let (blocks, kv_heads, block_size) = match values.dims() {
            &[blocks, kv_heads, dim, block_size] if dim == head_dim => {
                (blocks, kv_heads, block_size)
            }
            dims => bail!(
                "value blocks must be [blocks, kv_heads, head_dim, block_size] with head_dim \
                 {head_dim}, not {dims:?}"
            ),
        };
        match keys.dims() {
            &[b, h, outer, s, x]
                if (b, h, s) == (blocks, kv_heads, block_size) && outer * x == head_dim => {}
            dims => bail!(
                "key blocks must be [blocks, kv_heads, head_dim / x, block_size, x], with the value \
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
        let view = (blocks, kv_heads, block_size * head_dim);
        Ok(Self {
            keys: keys.reshape(view)?,
            values: values.reshape(view)?,
            blocks,
            kv_heads,
            block_size,
            head_dim,
            key_interleave: (1..=NR.min(block_size))
                .rev()
                .find(|positions| block_size.is_multiple_of(*positions))
                .unwrap_or(1),
        })
    }

    /// Writes the new rows of one chain: `k` and `v` `[rows, heads.len(), head_dim]` go to the
    /// key/value heads `heads`, row r to slot `slots[r]`. They are cast to the dtype of the cache.
    ///
    /// # Errors
    /// If a shape does not fit or a slot is not in the cache. Then nothing is written.
    pub fn write(&self, heads: Range<usize>, k: &Tensor, v: &Tensor, slots: &Slots) -> Result<()> {
        self.check_write(&heads, k, v, slots)?;
        #[cfg(feature = "gpu")]
        if crate::cuda::accepts(&self.keys) {
            return crate::cuda::write(self, heads, (k, v), slots);
        }
        let write =
            |values| WriteRows { kv: self, heads: heads.clone(), slots: slots.as_slice(), values };
        let dtype = self.keys.dtype();
        self.keys.inplace_op2(&k.to_dtype(dtype)?.contiguous()?, &write(false))?;
        self.values.inplace_op2(&v.to_dtype(dtype)?.contiguous()?, &write(true))
    }

    /// As [`write`](Self::write), with RoPE applied to the keys first ([`Rope::apply`]): row r of `k`
    /// is at position `positions[r]` of its sequence. Values are not rotated.
    ///
    /// # Errors
    /// As for [`write`](Self::write) and [`Rope::apply`].
    pub fn write_with_rope(
        &self,
        heads: Range<usize>,
        k: &Tensor,
        v: &Tensor,
        slots: &Slots,
        rope: &Rope,
        positions: &[usize],
    ) -> Result<()> {
        #[cfg(feature = "gpu")]
        if crate::cuda::accepts(&self.keys) {
            self.check_write(&heads, k, v, slots)?;
            rope.check(k, positions)?;
            let table = rope.gpu_table(self.keys.device())?;
            return crate::cuda::write_with_rope(self, heads, (k, v), slots, (&table, positions));
        }
        self.write(heads, &rope.apply(k, positions)?, v, slots)
    }

    fn check_write(
        &self,
        heads: &Range<usize>,
        k: &Tensor,
        v: &Tensor,
        slots: &Slots,
    ) -> Result<()> {
        self.check_heads(heads)?;
        let expected = [slots.row_count(), heads.len(), self.head_dim];
        for (name, rows) in [("k", k), ("v", v)] {
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

    /// How many positions of keys are interleaved.
    pub(crate) fn key_interleave(&self) -> usize {
        self.key_interleave
    }

    /// The index of the first number of a key. `offset` is the position within `block`. The other
    /// numbers follow at a stride of `key_interleave`.
    #[inline(always)]
    pub(crate) fn key_start(&self, block: u32, head: usize, offset: usize) -> usize {
        let interleave = self.key_interleave;
        let before = offset / interleave * interleave * self.head_dim;
        self.head_start(block, head) + before + offset % interleave
    }

    /// The indices of one panel of a value: its numbers from `first` on, a multiple of 32. `offset`
    /// is the position within `block`.
    #[inline(always)]
    pub(crate) fn value_panel(
        &self,
        block: u32,
        head: usize,
        offset: usize,
        first: usize,
    ) -> Range<usize> {
        let width = NR.min(self.head_dim - first);
        let start = self.head_start(block, head) + first * self.block_size + offset * width;
        start..start + width
    }

    #[inline(always)]
    fn head_start(&self, block: u32, head: usize) -> usize {
        (block as usize * self.kv_heads + head) * self.block_size * self.head_dim
    }
}

/// Copies checked rows to their slots in one of the two tensors.
struct WriteRows<'a> {
    kv: &'a KvBlocks,
    heads: Range<usize>,
    slots: &'a [i64],
    /// Whether the rows are values, not keys.
    values: bool,
}

impl WriteRows<'_> {
    fn copy<T: Copy>(&self, cache: &mut [T], rows: &[T]) {
        let mut sources = rows.chunks_exact(self.kv.head_dim);
        for &slot in self.slots {
            for head in self.heads.clone() {
                let Some(source) = sources.next() else { return };
                // A negative slot marks a padding row.
                let Ok(slot) = usize::try_from(slot) else { continue };
                if self.values {
                    self.copy_value(cache, slot, head, source);
                } else {
                    self.copy_key(cache, slot, head, source);
                }
            }
        }
    }

    fn copy_key<T: Copy>(&self, cache: &mut [T], slot: usize, head: usize, key: &[T]) {
        let (block, offset) = self.block_and_offset(slot);
        let start = self.kv.key_start(block, head, offset);
        for (to, &from) in cache[start..].iter_mut().step_by(self.kv.key_interleave).zip(key) {
            *to = from;
        }
    }

    fn copy_value<T: Copy>(&self, cache: &mut [T], slot: usize, head: usize, value: &[T]) {
        let (block, offset) = self.block_and_offset(slot);
        for (panel, from) in value.chunks(NR).enumerate() {
            let to = self.kv.value_panel(block, head, offset, panel * NR);
            cache[to].copy_from_slice(from);
        }
    }

    fn block_and_offset(&self, slot: usize) -> (u32, usize) {
        ((slot / self.kv.block_size) as u32, slot % self.kv.block_size)
    }
}

impl InplaceOp2 for WriteRows<'_> {
    fn name(&self) -> &'static str {
        "kv_blocks_write"
    }

    fn cpu_fwd(
        &self,
        cache: &mut CpuStorage,
        cache_layout: &Layout,
        rows: &CpuStorage,
        rows_layout: &Layout,
    ) -> Result<()> {
        let (Some((from, to)), Some((first, last))) =
            (cache_layout.contiguous_offsets(), rows_layout.contiguous_offsets())
        else {
            bail!("{} needs contiguous tensors", self.name());
        };
        for_dtype!(rows.dtype(), T => {
            let rows = &rows.as_slice::<T>()?[first..last];
            self.copy(&mut T::slice_mut(cache)?[from..to], rows);
            Ok(())
        })
    }
}
