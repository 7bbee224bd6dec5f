// The plan: how the attention of a step is divided into thread blocks. It depends only on the rows
// of the step, so the host plans once per step, and every layer uses the plan.
//
// A *query* is one head of one row. Query heads that share a key/value head are stacked: per
// key/value head, a range has rows x group queries, and query q is head q % group of row q / group.
// The keys and values are thus read once for the whole group, and a single row can fill a tile.
//
// - A range with many queries is divided into *prefill* tiles of 128 queries. A tile covers all
//   keys that its last row sees. The host lists these tiles.
// - The ranges with few queries of one sequence whose chains read the same key/value heads form a
//   *decode stack*: in CoLM-Air that is one row of every chain. Its queries, those of one range
//   after those of the other, are divided into tiles of 16, so the keys and values are read once for
//   all chains. The keys are divided into splits of 256. If there is more than one split, each
//   writes a partial result, and a second kernel combines them. The host lists stacks and ranges;
//   each thread block finds its tile and split by its index. A plan of decoding is therefore small
//   however long the sequences are.
//
// Whether a range is prefill or decode depends only on the range, and the queries of a tile do not
// affect each other, so a row is computed in the same way whatever else is in the step.
#pragma once

#include "instructions.cuh"
#include "limits.h"

// The heads of one chain.
struct ColmChainHeads {
    int heads;
    int first_kv_head;  // in the cache
    int kv_heads;       // divides `heads`
};

// Consecutive rows of one sequence that one chain is active on. Row j has the position
// `first_position` + j and attends to all positions up to its own.
struct ColmQueryRange {
    int chain;
    int sequence;  // row in the block tables
    int first_position;
    int rows;
    int first_row;  // in the chain's q
};

// The counts of a plan. A partial result is COLM_DECODE_QUERIES x (head_dim + 2) f32.
struct ColmAttentionPlan {
    int prefill;   // thread blocks, one per prefill tile
    int decode;    // thread blocks, one per decode tile and split
    int combine;   // decode tiles with more than one split
    int partials;  // partial results
    int stacks;    // decode stacks
    int words;     // the size of the plan in 32-bit words
};

namespace colm {

constexpr int PREFILL_QUERIES = 128;
// Up to this many queries a range is divided into decode tiles.
constexpr int MAX_DECODE_QUERIES = 64;
constexpr int SPLIT_KEYS = 256;

// The words of a plan are its PrefillTiles, then its DecodeStacks, then its DecodeRanges.

// One tile of queries of one key/value head. The first four fields are those of the range.
struct PrefillTile {
    int chain;
    int sequence;
    int first_position;
    int first_row;
    int kv_head;      // in the cache
    int first_query;  // in the range
    int queries;
};

// The decode ranges of one sequence that read the same key/value heads. Its thread blocks are in the
// order of key/value head, split and tile, so blocks that read the same keys are neighbors.
struct DecodeStack {
    int sequence;
    int first_kv_head;  // in the cache
    int kv_heads;
    int queries;      // per key/value head
    int visible;      // the number of positions that its last row sees
    int first_range;  // among the plan's decode ranges
    int ranges;
    // The totals of the stacks before this one.
    int first_block;
    int first_combined;  // tiles to combine
    int first_partial;

    __host__ __device__ int tiles() const {
        return (queries + COLM_DECODE_QUERIES - 1) / COLM_DECODE_QUERIES;
    }
    __host__ __device__ int splits() const { return (visible + SPLIT_KEYS - 1) / SPLIT_KEYS; }
};

// A range of a decode stack. The sequence is that of the stack.
struct DecodeRange {
    int chain;
    int first_position;
    int first_row;    // in the chain's q
    int first_query;  // in the stack
};

}  // namespace colm
