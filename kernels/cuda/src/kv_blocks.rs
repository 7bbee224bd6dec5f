//! One layer's paged keys and values, and the write of new rows.

use std::ptr;

use candle_core::{bail, DType, Device, Result, Tensor};

use crate::ffi::attention as ffi;
use crate::ffi::kv_write::colm_kv_write;
use crate::limits::BLOCK_SIZES;
use crate::memory::{address, check_row_numbers, code_of, int, launched, stream};
use crate::RopeTable;

/// One layer's keys and values in KV blocks, in the layout of `kv_blocks.cuh`: a key or value is one contiguous row.
#[derive(Clone, Copy, Debug)]
pub struct KvBlocks<'a> {
    /// `[blocks, kv_heads, block_size, head_dim]`, or another shape with as many numbers
    pub keys: &'a Tensor,
    /// The same for the values.
    pub values: &'a Tensor,
    /// Key/value heads of the layer.
    pub kv_heads: usize,
    /// Positions per KV block: one of [`BLOCK_SIZES`].
    pub block_size: usize,
    /// Numbers per head: one of [`HEAD_DIMS`](crate::limits::HEAD_DIMS).
    pub head_dim: usize,
}

impl KvBlocks<'_> {
    pub(crate) fn ffi(&self, device: &Device) -> Result<ffi::KvBlocks> {
        if !BLOCK_SIZES.contains(&self.block_size) {
            bail!(
                "block_size = {}: the CUDA kernels support KV blocks of {BLOCK_SIZES:?} positions",
                self.block_size
            );
        }
        Ok(ffi::KvBlocks {
            keys: address(self.keys, device)?,
            values: address(self.values, device)?,
            kv_heads: int(self.kv_heads)?,
            block_size: int(self.block_size)?,
        })
    }
}

/// The new keys and values of one chain.
#[derive(Clone, Copy, Debug)]
pub struct KvRows<'a> {
    /// `[rows, heads, head_dim]`
    pub keys: &'a Tensor,
    /// Of the same shape.
    pub values: &'a Tensor,
    /// i64 `[rows]`: block * block_size + offset per row. Rows with a negative slot are skipped. Slots are not checked:
    /// they must be within the cache.
    pub slots: &'a Tensor,
    /// The first of the cache's heads that are written.
    pub first_head: usize,
}

impl KvRows<'_> {
    /// Returns the numbers of rows and heads.
    pub(crate) fn check(&self, blocks: &KvBlocks) -> Result<(usize, usize)> {
        let Self { keys, values, slots, .. } = self;
        let (rows, heads, head_dim) = keys.dims3()?;
        check_row_numbers("slots", slots, rows, DType::I64)?;
        let dtype = blocks.keys.dtype();
        if values.dims() != keys.dims() || head_dim != blocks.head_dim {
            bail!(
                "keys {:?} and values {:?} for a head_dim of {}",
                keys.dims(),
                values.dims(),
                blocks.head_dim
            );
        }
        let dtypes = [keys.dtype(), values.dtype(), blocks.values.dtype()];
        if dtypes.iter().any(|&other| other != dtype) {
            bail!(
                "keys {:?} and values {:?} for a cache of {dtype:?}",
                keys.dtype(),
                values.dtype()
            );
        }
        Ok((rows, heads))
    }
}

/// Writes `keys` and `values` `[rows, heads, head_dim]` to the heads of the cache from `first_head` on, row r to slot
/// `slots[r]` = block * block_size + offset. Rows with a negative slot are skipped. `slots` is i64 `[rows]` and not
/// checked: it must be within the cache. With `rotation`, a table and the positions of the rows,
/// [`rope`](crate::rope()) is applied to the keys.
///
/// # Errors
/// If a shape or dtype does not fit.
pub fn kv_write(
    blocks: &KvBlocks,
    first_head: usize,
    (keys, values): (&Tensor, &Tensor),
    slots: &Tensor,
    rotation: Option<(&RopeTable, &Tensor)>,
) -> Result<()> {
    let (rows, heads) = KvRows { keys, values, slots, first_head }.check(blocks)?;
    let (dtype, head_dim) = (blocks.keys.dtype(), blocks.head_dim);
    let device = keys.device();
    let stride = (heads * head_dim) as i64;
    let (cos, sin, positions) = match rotation {
        None => (ptr::null(), ptr::null(), ptr::null()),
        Some((table, positions)) => {
            table.check(head_dim)?;
            check_row_numbers("positions", positions, rows, DType::U32)?;
            let (cos, sin) = (address(&table.cos, device)?, address(&table.sin, device)?);
            (cos.cast_const(), sin.cast_const(), address(positions, device)?.cast_const())
        }
    };
    // SAFETY: the addresses are those of tensors of the shapes and dtypes checked above, which are freed on the stream
    // of the work. The caller keeps slots and positions within the cache and the table. The cache is written through
    // shared tensors, as candle's own in-place operations do; nothing else accesses these slots until the work is done.
    let status = unsafe {
        colm_kv_write(
            code_of(dtype)?,
            int(head_dim)?,
            address(keys, device)?,
            stride,
            address(values, device)?,
            stride,
            int(rows)?,
            int(first_head)?,
            int(heads)?,
            cos.cast(),
            sin.cast(),
            positions.cast(),
            address(slots, device)?.cast(),
            &blocks.ffi(device)?,
            stream(device)?,
        )
    };
    launched("kv_write", status)
}
