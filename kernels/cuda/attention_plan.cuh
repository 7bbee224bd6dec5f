// How the attention of a step is cut into pieces of work. Depends on the rows of the step only, so
// the host plans once per step and every layer uses the plan.
//
// Query heads that share a key/value head are stacked: a range of rows has, per key/value head,
// rows x group *query slots*, and slot s is query head s % group of row s / group. So the keys and
// values are read once for the whole group, and one row still fills a tile.
//
// - A range with many slots is cut into *prefill* tiles of 128 slots, each going over all keys its
//   last row sees.
// - A range with few slots is cut into *decode* tiles of 16 slots, and those along the keys into
// splits
//   of 256 keys. If there is more than one split, each leaves a partial result, and a *combine*
//   item merges them.
//
// All of it follows from the range itself, so a row is computed the same way whatever else is in
// the step.
#pragma once

#include <cstdint>

// How many of its own and the shared heads a chain has.
struct ColmChainHeads {
    int heads;
    int first_kv_head;  // of the cache
    int kv_heads;       // divides `heads`
};

// Consecutive rows of one sequence that one chain is active on: row j stands at position
// `first_position` + j and attends to all positions up to its own.
struct ColmQueryRange {
    int chain;
    int sequence;  // row of the block tables
    int first_position;
    int rows;
    int first_row;  // of the chain's queries
};

// One tile of query slots of one key/value head; in decode of one split of the keys. `range` fields
// as above.
struct ColmAttentionItem {
    int chain;
    int sequence;
    int first_position;
    int first_row;
    int kv_head;     // of the cache
    int first_slot;  // of the range
    int slots;
    int first_key;
    // Decode: where the partial result goes; -1: this is the whole result. Combine: the first
    // partial.
    int partial;
};

// The items of a step: `prefill`, then `decode`, then `combine`. The partial results of the decode
// items are 16 slots x (head_dim + 2) f32 each.
struct ColmAttentionPlan {
    int prefill;
    int decode;
    int combine;
    int partials;
};

namespace colm {

constexpr int PREFILL_SLOTS = 128;
constexpr int DECODE_SLOTS = 16;
// Up to this many slots a range is decoded.
constexpr int MOST_DECODE_SLOTS = 64;
constexpr int SPLIT_KEYS = 256;

}  // namespace colm
