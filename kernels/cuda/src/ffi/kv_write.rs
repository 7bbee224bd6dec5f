//! The launchers of `kv_write.cu`.

use std::ffi::{c_int, c_void};
use std::ptr;

use super::attention::KvBlocks;

/// `ColmRopeChain`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RopeChain {
    /// `[rows, heads, head_dim]`
    pub q: *const c_void,
    /// The same, rotated.
    pub q_out: *mut c_void,
    /// `[rows, kv_heads, head_dim]`
    pub keys: *const c_void,
    /// `[rows, kv_heads, head_dim]`
    pub values: *const c_void,
    /// Row stride of `q`, in numbers.
    pub q_stride: i64,
    /// Row stride of `q_out`.
    pub q_out_stride: i64,
    /// Row stride of `keys`.
    pub keys_stride: i64,
    /// Row stride of `values`.
    pub values_stride: i64,
    /// Per row, its position.
    pub positions: *const i32,
    /// Per row, the slot of its key and value.
    pub slots: *const i64,
    /// The number of rows.
    pub rows: c_int,
    /// Query heads, 0 without queries.
    pub heads: c_int,
    /// Key/value heads, 0 without keys and values.
    pub kv_heads: c_int,
    /// The first of the cache's heads that are written.
    pub first_kv_head: c_int,
}

impl Default for RopeChain {
    fn default() -> Self {
        Self {
            q: ptr::null(),
            q_out: ptr::null_mut(),
            keys: ptr::null(),
            values: ptr::null(),
            q_stride: 0,
            q_out_stride: 0,
            keys_stride: 0,
            values_stride: 0,
            positions: ptr::null(),
            slots: ptr::null(),
            rows: 0,
            heads: 0,
            kv_heads: 0,
            first_kv_head: 0,
        }
    }
}

extern "C" {
    /// Applies RoPE to the queries and new keys of all chains, and writes keys and values to the paged KV cache.
    pub fn colm_rope_and_write(
        dtype: c_int,
        head_dim: c_int,
        chains: *const RopeChain,
        count: c_int,
        cos: *const f32,
        sin: *const f32,
        blocks: *const KvBlocks,
        stream: *mut c_void,
    ) -> c_int;

    /// Applies RoPE to `x` and writes to `out`.
    pub fn colm_rope(
        dtype: c_int,
        head_dim: c_int,
        x: *const c_void,
        x_stride: i64,
        out: *mut c_void,
        out_stride: i64,
        rows: c_int,
        heads: c_int,
        cos: *const f32,
        sin: *const f32,
        positions: *const i32,
        stream: *mut c_void,
    ) -> c_int;

    /// Writes keys, optionally with RoPE, and values to the paged KV cache.
    pub fn colm_kv_write(
        dtype: c_int,
        head_dim: c_int,
        keys: *const c_void,
        keys_stride: i64,
        values: *const c_void,
        values_stride: i64,
        rows: c_int,
        first_head: c_int,
        heads: c_int,
        cos: *const f32,
        sin: *const f32,
        positions: *const i32,
        slots: *const i64,
        blocks: *const KvBlocks,
        stream: *mut c_void,
    ) -> c_int;
}
