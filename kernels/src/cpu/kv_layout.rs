//! The order of the numbers in a KV block on the CPU, and writes in that order. No other file knows it.

use std::ops::Range;

use candle_core::backend::BackendStorage;
use candle_core::{bail, CpuStorage, InplaceOp2, Layout, Result};

use super::gemm::NR;
use super::{for_dtype, Element};

/// The CPU layout: the packed panels that the GEMM micro-kernel reads sequentially. Per KV block and head:
///
/// - keys: `[block_size / c, head_dim, c]`, with c positions interleaved, where c is the largest divisor of
///   `block_size` up to 32;
/// - values: per 32 elements of a head, `[block_size, 32]`. The last panel is narrower if `head_dim` is not a multiple
///   of 32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KvLayout {
    pub kv_heads: usize,
    pub block_size: usize,
    pub head_dim: usize,
    /// How many positions of keys are interleaved: c above.
    pub key_interleave: usize,
}

impl KvLayout {
    pub(crate) fn new(kv_heads: usize, block_size: usize, head_dim: usize) -> Self {
        let divides = |positions: &usize| block_size.is_multiple_of(*positions);
        let key_interleave = (1..=NR.min(block_size)).rev().find(divides).unwrap_or(1);
        Self { kv_heads, block_size, head_dim, key_interleave }
    }

    /// The index of the first number of a key. `offset` is the position within `block`. The other numbers follow at a
    /// stride of `key_interleave`.
    #[inline(always)]
    pub(crate) fn key_start(&self, block: u32, head: usize, offset: usize) -> usize {
        let interleave = self.key_interleave;
        let before = offset / interleave * interleave * self.head_dim;
        self.head_start(block, head) + before + offset % interleave
    }

    /// The indices of one panel of a value: its numbers from `first` on, a multiple of 32. `offset` is the position
    /// within `block`.
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

/// Which of the two tensors of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeysOrValues {
    Keys,
    Values,
}

/// Copies checked rows to their slots in one of the two tensors of a cache.
pub(crate) struct WriteRows<'a> {
    pub layout: KvLayout,
    pub heads: Range<usize>,
    /// One slot per row: `block * block_size + offset`, or negative for a padding row.
    pub slots: &'a [i64],
    pub tensor: KeysOrValues,
}

impl WriteRows<'_> {
    fn copy<T: Copy>(&self, cache: &mut [T], rows: &[T]) {
        let mut sources = rows.chunks_exact(self.layout.head_dim);
        for &slot in self.slots {
            for head in self.heads.clone() {
                let Some(source) = sources.next() else { return };
                // A negative slot marks a padding row.
                let Ok(slot) = usize::try_from(slot) else { continue };
                match self.tensor {
                    KeysOrValues::Keys => self.copy_key(cache, slot, head, source),
                    KeysOrValues::Values => self.copy_value(cache, slot, head, source),
                }
            }
        }
    }

    fn copy_key<T: Copy>(&self, cache: &mut [T], slot: usize, head: usize, key: &[T]) {
        let (block, offset) = self.block_and_offset(slot);
        let start = self.layout.key_start(block, head, offset);
        for (to, &from) in cache[start..].iter_mut().step_by(self.layout.key_interleave).zip(key) {
            *to = from;
        }
    }

    fn copy_value<T: Copy>(&self, cache: &mut [T], slot: usize, head: usize, value: &[T]) {
        let (block, offset) = self.block_and_offset(slot);
        for (panel, from) in value.chunks(NR).enumerate() {
            let to = self.layout.value_panel(block, head, offset, panel * NR);
            cache[to].copy_from_slice(from);
        }
    }

    fn block_and_offset(&self, slot: usize) -> (u32, usize) {
        ((slot / self.layout.block_size) as u32, slot % self.layout.block_size)
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
