//! One layer's paged keys and values, RoPE, and the write of new rows.

use std::ptr;

use candle_core::{bail, DType, Device, Result, Tensor};

use crate::ffi::attention as ffi;
use crate::ffi::kv_write::{colm_kv_write, colm_rope};
use crate::limits::BLOCK_SIZES;
use crate::memory::{address, code_of, empty, int, launched, stream};

/// One layer's keys and values in KV blocks, in the layout of `kv_blocks.cuh`: a key or value is one contiguous
/// row.
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

/// The cosines and sines of RoPE, f32 `[max_positions, head_dim / 2]` each.
#[derive(Clone, Debug)]
pub struct RopeTable {
    /// The cosines.
    pub cos: Tensor,
    /// The sines.
    pub sin: Tensor,
}

impl RopeTable {
    fn check(&self, head_dim: usize) -> Result<()> {
        for table in [&self.cos, &self.sin] {
            let fits = matches!(table.dims(), [_, half] if 2 * half == head_dim);
            if !fits || table.dtype() != DType::F32 {
                bail!(
                    "a rotary table must be f32 [positions, {}], not {:?} {:?}",
                    head_dim / 2,
                    table.dtype(),
                    table.dims()
                );
            }
        }
        Ok(())
    }
}

/// Applies RoPE to `x` `[rows, heads, head_dim]`, row r at `positions[r]`. `positions` is u32 `[rows]` and not
/// checked: it must be within the table.
///
/// # Errors
/// If a shape or dtype does not fit.
pub fn rope(x: &Tensor, positions: &Tensor, table: &RopeTable) -> Result<Tensor> {
    let (rows, heads, head_dim) = x.dims3()?;
    table.check(head_dim)?;
    check_rows("positions", positions, rows, DType::U32)?;
    let device = x.device();
    let out = empty(x.dims(), x.dtype(), device)?;
    let stride = (heads * head_dim) as i64;
    // SAFETY: the addresses are those of tensors of the shapes and dtypes checked above, which are freed on
    // the stream of the work. The caller keeps the positions within the table.
    let status = unsafe {
        colm_rope(
            code_of(x.dtype())?,
            int(head_dim)?,
            address(x, device)?,
            stride,
            address(&out, device)?,
            stride,
            int(rows)?,
            int(heads)?,
            address(&table.cos, device)?.cast(),
            address(&table.sin, device)?.cast(),
            address(positions, device)?.cast(),
            stream(device)?,
        )
    };
    launched("rope", status)?;
    Ok(out)
}

/// Writes `k` and `v` `[rows, heads, head_dim]` to the heads of the cache from `first_head` on, row r to slot
/// `slots[r]` = block * block_size + offset. Rows with a negative slot are skipped. `slots` is i64 `[rows]` and
/// not checked: it must be within the cache. With `rotation`, a table and the positions of the rows, [`rope`] is
/// applied to the keys.
///
/// # Errors
/// If a shape or dtype does not fit.
pub fn kv_write(
    blocks: &KvBlocks,
    first_head: usize,
    (k, v): (&Tensor, &Tensor),
    slots: &Tensor,
    rotation: Option<(&RopeTable, &Tensor)>,
) -> Result<()> {
    let (rows, heads, head_dim) = k.dims3()?;
    check_rows("slots", slots, rows, DType::I64)?;
    let dtype = blocks.keys.dtype();
    if v.dims() != k.dims() || head_dim != blocks.head_dim {
        bail!(
            "keys {:?} and values {:?} for a head_dim of {}",
            k.dims(),
            v.dims(),
            blocks.head_dim
        );
    }
    if [k.dtype(), v.dtype(), blocks.values.dtype()].iter().any(|&other| other != dtype) {
        bail!("keys {:?} and values {:?} for a cache of {dtype:?}", k.dtype(), v.dtype());
    }
    let device = k.device();
    let stride = (heads * head_dim) as i64;
    let (cos, sin, positions) = match rotation {
        None => (ptr::null(), ptr::null(), ptr::null()),
        Some((table, positions)) => {
            table.check(head_dim)?;
            check_rows("positions", positions, rows, DType::U32)?;
            let (cos, sin) = (address(&table.cos, device)?, address(&table.sin, device)?);
            (cos.cast_const(), sin.cast_const(), address(positions, device)?.cast_const())
        }
    };
    // SAFETY: the addresses are those of tensors of the shapes and dtypes checked above, which are freed on
    // the stream of the work. The caller keeps slots and positions within the cache and the table. The
    // cache is written through shared tensors, as candle's own in-place operations do; nothing else
    // accesses these slots until the work is done.
    let status = unsafe {
        colm_kv_write(
            code_of(dtype)?,
            int(head_dim)?,
            address(k, device)?,
            stride,
            address(v, device)?,
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

fn check_rows(name: &str, numbers: &Tensor, rows: usize, dtype: DType) -> Result<()> {
    if numbers.dims() != [rows] || numbers.dtype() != dtype {
        bail!("{name} must be {dtype:?} [{rows}], not {:?} {:?}", numbers.dtype(), numbers.dims());
    }
    Ok(())
}
