//! One layer's paged keys and values, rotary positions, and the write of new rows.

use std::ptr;

use candle_core::{bail, DType, Device, Result, Tensor};

use crate::ffi::attention as ffi;
use crate::ffi::kv_write::{colm_kv_write, colm_rope};
use crate::memory::{address, code_of, empty, int, launched, stream};

/// One layer's keys and values in blocks. Within a block, per head, a key or value is one run of numbers.
#[derive(Clone, Copy, Debug)]
pub struct KvBlocks<'a> {
    /// `[blocks, kv_heads, block_size, head_dim]`, in any shape of as many numbers
    pub keys: &'a Tensor,
    /// The same.
    pub values: &'a Tensor,
    /// Key/value heads of the layer.
    pub kv_heads: usize,
    /// Positions per block: 16, 32, 48 or 64.
    pub block_size: usize,
    /// 32, 64 or 128.
    pub head_dim: usize,
}

impl KvBlocks<'_> {
    pub(crate) fn ffi(&self, device: &Device) -> Result<ffi::KvBlocks> {
        Ok(ffi::KvBlocks {
            keys: address(self.keys, device)?,
            values: address(self.values, device)?,
            kv_heads: int(self.kv_heads)?,
            block_size: int(self.block_size)?,
        })
    }
}

/// Cosines and sines of the half rotation, f32 `[max_positions, head_dim / 2]` each.
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

/// `x` of `[rows, heads, head_dim]`, row r turned by `positions[r]`; u32, all within the table.
pub fn rope(x: &Tensor, positions: &Tensor, table: &RopeTable) -> Result<Tensor> {
    let (rows, heads, head_dim) = x.dims3()?;
    table.check(head_dim)?;
    check_rows("positions", positions, rows, DType::U32)?;
    let device = x.device();
    let out = empty(x.dims(), x.dtype(), device)?;
    let stride = (heads * head_dim) as i64;
    // SAFETY: the addresses are those of tensors of the shapes and dtypes checked above, freed on the
    // stream of the work.
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

/// Writes `k` and `v` of `[rows, heads, head_dim]` to the heads of the cache from `first_head` on: row r to
/// slot `slots[r]` = block * block_size + offset, nowhere if that is negative; i64, all within the cache.
/// With `turn`, a table and per row its position, keys are turned on their way as [`rope`] does.
pub fn kv_write(
    blocks: &KvBlocks,
    first_head: usize,
    (k, v): (&Tensor, &Tensor),
    slots: &Tensor,
    turn: Option<(&RopeTable, &Tensor)>,
) -> Result<()> {
    let (rows, heads, head_dim) = k.dims3()?;
    check_rows("slots", slots, rows, DType::I64)?;
    let dtype = blocks.keys.dtype();
    if v.dims() != k.dims() || head_dim != blocks.head_dim {
        bail!("keys {:?} and values {:?} for heads of {}", k.dims(), v.dims(), blocks.head_dim);
    }
    if [k.dtype(), v.dtype(), blocks.values.dtype()].iter().any(|&other| other != dtype) {
        bail!("keys {:?} and values {:?} for a cache of {dtype:?}", k.dtype(), v.dtype());
    }
    let device = k.device();
    let stride = (heads * head_dim) as i64;
    let (cos, sin, positions) = match turn {
        None => (ptr::null(), ptr::null(), ptr::null()),
        Some((table, positions)) => {
            table.check(head_dim)?;
            check_rows("positions", positions, rows, DType::U32)?;
            let (cos, sin) = (address(&table.cos, device)?, address(&table.sin, device)?);
            (cos.cast_const(), sin.cast_const(), address(positions, device)?.cast_const())
        }
    };
    // SAFETY: as above. The cache is written through shared tensors, as candle's own in-place operations
    // do: nothing else reads or writes these slots until the work is done.
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
