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

/// `ColmAttentionItem`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttentionItem {
    /// The chain.
    pub chain: c_int,
    /// The sequence.
    pub sequence: c_int,
    /// The position of the range's first row.
    pub first_position: c_int,
    /// The range's first row among the chain's queries.
    pub first_row: c_int,
    /// The key/value head of the cache.
    pub kv_head: c_int,
    /// The first query, in the range.
    pub first_query: c_int,
    /// The number of queries.
    pub queries: c_int,
    /// The first key.
    pub first_key: c_int,
    /// The index of the partial result, or -1.
    pub partial: c_int,
}

impl AttentionItem {
    /// The number of fields.
    pub const WORDS: usize = 9;

    /// The fields in order, as u32.
    pub fn words(&self) -> [u32; Self::WORDS] {
        [
            self.chain,
            self.sequence,
            self.first_position,
            self.first_row,
            self.kv_head,
            self.first_query,
            self.queries,
            self.first_key,
            self.partial,
        ]
        .map(|field| field as u32)
    }
}

/// `ColmAttentionPlan`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttentionPlan {
    /// Prefill items, which are first.
    pub prefill: c_int,
    /// Decode items.
    pub decode: c_int,
    /// Combine items, which merge splits.
    pub combine: c_int,
    /// Partial results of `DECODE_QUERIES * (head_dim + 2)` floats each.
    pub partials: c_int,
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
    /// Divides the attention of a step into items. See `attention_plan.cuh`.
    pub fn colm_attention_plan(
        chains: *const ChainHeads,
        chain_count: c_int,
        ranges: *const QueryRange,
        range_count: c_int,
        items: *mut AttentionItem,
        capacity: c_int,
        plan: *mut AttentionPlan,
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
        items: *const AttentionItem,
        plan: *const AttentionPlan,
        partials: *mut f32,
        scale: f32,
        stream: *mut c_void,
    ) -> c_int;
}
