//! The launchers of `chain_attention.cu` and `attention_plan.cu`.

use std::ffi::{c_int, c_void};

/// `ColmChainHeads`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHeads {
    /// Query heads of the chain.
    pub heads: c_int,
    /// The first key/value head that it reads, in the cache.
    pub first_kv_head: c_int,
    /// The number of key/value heads that it reads.
    pub kv_heads: c_int,
}

/// `ColmQueryRange`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryRange {
    /// The chain.
    pub chain: c_int,
    /// The sequence, a row of the block tables.
    pub sequence: c_int,
    /// The position of the first row.
    pub first_position: c_int,
    /// The number of rows.
    pub rows: c_int,
    /// The first row among the chain's queries.
    pub first_row: c_int,
}

/// `ColmAttentionPlan`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttentionPlan {
    /// Prefill tiles, one thread block each.
    pub prefill: c_int,
    /// Thread blocks of decoding, one per tile and split.
    pub decode: c_int,
    /// Decode tiles with more than one split.
    pub combine: c_int,
    /// Partial results of `DECODE_QUERIES * (head_dim + 2)` floats each.
    pub partials: c_int,
    /// Decode stacks.
    pub stacks: c_int,
    /// The size of the plan in u32 words.
    pub words: c_int,
}

/// `ColmChainTensors`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ChainTensors {
    /// `[rows, heads, head_dim]`
    pub q: *const c_void,
    /// `[rows, heads, head_dim]`
    pub out: *mut c_void,
    /// Row stride of `q`, in numbers.
    pub q_stride: i64,
}

/// `ColmKvBlocks`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KvBlocks {
    /// `[blocks, kv_heads, block_size, head_dim]`
    pub keys: *mut c_void,
    /// Of the same shape.
    pub values: *mut c_void,
    /// Key/value heads of the cache.
    pub kv_heads: c_int,
    /// Positions per KV block.
    pub block_size: c_int,
}

extern "C" {
    /// Divides the attention of a step into thread blocks. See `attention_plan.cuh`.
    pub fn colm_attention_plan(
        chains: *const ChainHeads,
        chain_count: c_int,
        ranges: *const QueryRange,
        range_count: c_int,
        words: *mut u32,
        capacity: c_int,
        counts: *mut AttentionPlan,
    ) -> c_int;

    /// Runs a plan. See `chain_attention.cu`.
    pub fn colm_chain_attention(
        dtype: c_int,
        head_dim: c_int,
        heads: *const ChainHeads,
        tensors: *const ChainTensors,
        chains: c_int,
        kv: *const KvBlocks,
        tables: *const u32,
        max_blocks: c_int,
        words: *const u32,
        plan: *const AttentionPlan,
        partials: *mut f32,
        scale: f32,
        stream: *mut c_void,
    ) -> c_int;
}
