//! RoPE of the queries and keys of all chains, and the write to the paged KV cache, in one launch.

use candle_core::{bail, DType, Device, Result, Tensor};

use crate::ffi::kv_write::{self as ffi, colm_rope_and_write};
use crate::memory::{
    address, check_chain_count, check_row_numbers, code_of, empty_parts, int, launched, stream,
};
use crate::{KvBlocks, KvRows, RopeTable};

/// The new rows of one chain.
#[derive(Clone, Copy, Debug)]
pub struct RopeChain<'a> {
    /// `[rows, heads, head_dim]` in the dtype of the cache
    pub q: &'a Tensor,
    /// u32 `[rows]`, not checked: they must be within the table.
    pub positions: &'a Tensor,
    /// Keys and values on the same rows, if the chain has any.
    pub new: Option<KvRows<'a>>,
}

/// Applies [`rope`](crate::rope()) to the queries and keys of all chains, and writes keys and values to `blocks` as
/// [`kv_write`](crate::kv_write) does. Returns the queries.
///
/// # Errors
/// If a shape or dtype does not fit, or if there are too many chains.
pub fn rope_and_write(
    chains: &[RopeChain],
    table: &RopeTable,
    blocks: &KvBlocks,
) -> Result<Vec<Tensor>> {
    check_chain_count(chains.len())?;
    table.check(blocks.head_dim)?;
    let (dtype, device) = (blocks.keys.dtype(), blocks.keys.device());
    let outs = empty_parts(chains.iter().map(|chain| chain.q.dims()), dtype, device)?;
    let launch = chains.iter().zip(&outs).map(|(chain, out)| chain.ffi(out, blocks, device));
    let launch = launch.collect::<Result<Vec<_>>>()?;
    // SAFETY: the addresses are those of tensors of the shapes and dtypes checked above, which are freed on the stream
    // of the work. The caller keeps slots and positions within the cache and the table. The cache is written through
    // shared tensors, as candle's own in-place operations do; nothing else accesses these slots until the work is done.
    let status = unsafe {
        colm_rope_and_write(
            code_of(dtype)?,
            int(blocks.head_dim)?,
            launch.as_ptr(),
            int(launch.len())?,
            address(&table.cos, device)?.cast(),
            address(&table.sin, device)?.cast(),
            &blocks.ffi(device)?,
            stream(device)?,
        )
    };
    launched("rope_and_write", status)?;
    Ok(outs)
}

impl RopeChain<'_> {
    fn ffi(&self, out: &Tensor, blocks: &KvBlocks, device: &Device) -> Result<ffi::RopeChain> {
        let (rows, heads, head_dim) = self.q.dims3()?;
        if head_dim != blocks.head_dim || self.q.dtype() != blocks.keys.dtype() {
            bail!(
                "queries {:?} of {:?} for a cache of {:?} with a head_dim of {}",
                self.q.dims(),
                self.q.dtype(),
                blocks.keys.dtype(),
                blocks.head_dim
            );
        }
        check_row_numbers("positions", self.positions, rows, DType::U32)?;
        let stride = (heads * head_dim) as i64;
        let queries = ffi::RopeChain {
            q: address(self.q, device)?,
            q_out: address(out, device)?,
            q_stride: stride,
            q_out_stride: stride,
            positions: address(self.positions, device)?.cast(),
            rows: int(rows)?,
            heads: int(heads)?,
            ..Default::default()
        };
        let Some(new) = self.new else { return Ok(queries) };
        let (new_rows, kv_heads) = new.check(blocks)?;
        if new_rows != rows {
            bail!("{rows} rows of queries, but {new_rows} of keys and values");
        }
        let stride = (kv_heads * head_dim) as i64;
        Ok(ffi::RopeChain {
            keys: address(new.keys, device)?,
            values: address(new.values, device)?,
            keys_stride: stride,
            values_stride: stride,
            slots: address(new.slots, device)?.cast(),
            kv_heads: int(kv_heads)?,
            first_kv_head: int(new.first_head)?,
            ..queries
        })
    }
}
