// The plan: how the attention of a step is divided into thread blocks. It depends only on the rows
// of the step, so the host plans once per step, and every layer uses the plan.
//
// A *query* is one head of one row. Query heads that share a key/value head are stacked: per
// key/value head, a range has rows x group queries, and query q is head q % group of row q / group.
// The keys and values are thus read once for the whole group, and a single row can fill a tile.
//
// - A range with many queries is divided into *prefill* tiles of 128 queries. A tile covers all
//   keys that its last row sees.
// - A range with few queries is divided into *decode* tiles of 16 queries, and these into splits of
//   256 keys. If there is more than one split, each writes a partial result, and a *combine* item
//   merges them.
//
// The division depends only on the range, so a row is computed in the same way whatever else is in
// the step.
#pragma once

#include <cstdint>

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

// One tile of queries of one key/value head; in decode, one split of its keys. The first four
// fields are those of the range.
struct ColmAttentionItem {
    int chain;
    int sequence;
    int first_position;
    int first_row;
    int kv_head;      // in the cache
    int first_query;  // in the range
    int queries;
    int first_key;
    // Decode: the index of the partial result, or -1 if the only split writes the result itself.
    // Combine: the index of the first partial result.
    int partial;
};

// The counts of a step's items, which are in this order: prefill, decode, combine. A partial result
// is COLM_DECODE_QUERIES x (head_dim + 2) f32.
struct ColmAttentionPlan {
    int prefill;
    int decode;
    int combine;
    int partials;
};

namespace colm {

constexpr int PREFILL_QUERIES = 128;
// Up to this many queries a range is divided into decode tiles.
constexpr int MAX_DECODE_QUERIES = 64;
constexpr int SPLIT_KEYS = 256;

}  // namespace colm
