//! The launchers of `kv_write.cu`.

use std::ffi::{c_int, c_void};

use super::attention::KvBlocks;

extern "C" {
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
