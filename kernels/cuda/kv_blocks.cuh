// One layer's paged keys and values, and where a row of them stands.
//
// The host allocates two tensors of blocks and never looks inside, so the order within a block is
// ours. Per block and key/value head stand the keys as [block_size, head_dim] and, in the other
// tensor, the values the same way: a key or value is one contiguous row, which 16-byte copies and
// ldmatrix like.
#pragma once

#include "launch.cuh"

// As the launchers take it; the tensors are on the device.
struct ColmKvBlocks {
    void* keys;    // [blocks, kv_heads, block_size, head_dim]
    void* values;  // the same
    int kv_heads;
    int block_size;  // a multiple of 16, at most 64
};

namespace colm {

// Every block holds whole groups of this many positions.
constexpr int POSITION_GROUP = 16;

inline int check_blocks(const ColmKvBlocks& blocks) {
    if (blocks.block_size < POSITION_GROUP || blocks.block_size > 64 ||
        blocks.block_size % POSITION_GROUP != 0) {
        return COLM_BAD_BLOCK_SIZE;
    }
    if (blocks.kv_heads <= 0) return COLM_BAD_HEADS;
    return aligned16(blocks.keys, blocks.values) ? COLM_OK : COLM_BAD_ALIGNMENT;
}

template <class T>
struct KvBlocks {
    T* keys;
    T* values;
    int kv_heads;
    int block_size;
    // Divides a group's index by the groups per block: 2^31 over these, rounded up.
    uint32_t groups_per_block_inverse;

    explicit KvBlocks(const ColmKvBlocks& blocks)
        : keys(static_cast<T*>(blocks.keys)),
          values(static_cast<T*>(blocks.values)),
          kv_heads(blocks.kv_heads),
          block_size(blocks.block_size) {
        const uint32_t groups = blocks.block_size / POSITION_GROUP;
        groups_per_block_inverse = ((1u << 31) + groups - 1) / groups;
    }

    // The place of `position`'s block in its sequence's table. Exact below 2^30 groups.
    __device__ __forceinline__ int block_of(int position) const {
        const uint64_t group = static_cast<uint32_t>(position / POSITION_GROUP);
        return static_cast<int>(group * groups_per_block_inverse >> 31);
    }

    // Where the row of `head` at `offset` within `block` starts, in both tensors. A layer's cache
    // has fewer than 2^32 rows: as many would fill 512 GiB.
    template <int HEAD_DIM>
    __device__ __forceinline__ size_t row(uint32_t block, int head, int offset) const {
        const uint32_t row = (block * kv_heads + head) * block_size + offset;
        return static_cast<size_t>(row) * HEAD_DIM;
    }
};

}  // namespace colm
