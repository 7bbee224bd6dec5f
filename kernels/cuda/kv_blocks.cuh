// One layer's paged keys and values, and their layout on a GPU.
//
// The host allocates two tensors of KV blocks and never reads them, so the order within a block is
// up to the kernels. Per KV block and key/value head, the keys are [block_size, head_dim] and, in
// the other tensor, so are the values: each is one contiguous row, as 16-byte copies and ldmatrix
// need.
//
// This file is the only one that knows the GPU layout. The CPU backend interleaves positions
// instead; that layout is defined in ../src/cpu/kv_layout.rs. A cache is never shared between the
// two.
#pragma once

#include <initializer_list>

#include "launch.cuh"

// The cache as an argument of the launchers. The tensors are on the device.
struct ColmKvBlocks {
    void* keys;    // [blocks, kv_heads, block_size, head_dim]
    void* values;  // the same
    int kv_heads;
    int block_size;  // one of COLM_BLOCK_SIZES
};

namespace colm {

// The unit of block table lookups. Every KV block has a whole number of groups.
constexpr int POSITION_GROUP = 16;

inline int check_blocks(const ColmKvBlocks& blocks) {
    bool supported = false;
    for (const int block_size : {COLM_BLOCK_SIZES}) supported |= blocks.block_size == block_size;
    if (!supported) return COLM_BAD_BLOCK_SIZE;
    if (blocks.kv_heads <= 0) return COLM_BAD_HEADS;
    return aligned16(blocks.keys, blocks.values) ? COLM_OK : COLM_BAD_ALIGNMENT;
}

template <class T>
struct KvBlocks {
    T* keys;
    T* values;
    int kv_heads;
    int block_size;
    // 2^31 / groups per block, rounded up: a division by multiplication.
    uint32_t groups_per_block_inverse;

    explicit KvBlocks(const ColmKvBlocks& blocks)
        : keys(static_cast<T*>(blocks.keys)),
          values(static_cast<T*>(blocks.values)),
          kv_heads(blocks.kv_heads),
          block_size(blocks.block_size) {
        const uint32_t groups = blocks.block_size / POSITION_GROUP;
        groups_per_block_inverse = ((1u << 31) + groups - 1) / groups;
    }

    // The index of `position`'s KV block in the block table. Exact below 2^30 groups.
    __device__ __forceinline__ int table_index(int position) const {
        const uint64_t group = static_cast<uint32_t>(position / POSITION_GROUP);
        return static_cast<int>(group * groups_per_block_inverse >> 31);
    }

    // The index of the first number of a key or value, in either tensor. `offset` is the position
    // within `block`. A layer's cache has fewer than 2^32 rows: as many would take 512 GiB.
    template <int HEAD_DIM>
    __device__ __forceinline__ size_t row(uint32_t block, int head, int offset) const {
        const uint32_t row = (block * kv_heads + head) * block_size + offset;
        return static_cast<size_t>(row) * HEAD_DIM;
    }
};

}  // namespace colm
