// The parameters of the attention kernels, and the copies of tiles to shared memory.
#pragma once

#include "attention_plan.cuh"
#include "attention_tile.cuh"
#include "kv_blocks.cuh"

// The queries and the result of one chain, on the device.
struct ColmChainTensors {
    const void* q;  // [active rows, heads, head_dim], with a row stride of `q_stride` numbers
    void* out;      // [active rows, heads, head_dim], contiguous
    int64_t q_stride;
};

namespace colm {

constexpr int TILE_KEYS = 64;
constexpr int ATTENTION_THREADS = 128;
constexpr int ATTENTION_WARPS = ATTENTION_THREADS / WARP;

template <class T>
struct AttentionChain {
    const T* q;
    T* out;
    int64_t q_stride;
    int heads;
    int first_kv_head;
    int group;
};

// The parameters of all three kernels.
template <class T>
struct AttentionParameters {
    AttentionChain<T> chains[COLM_MAX_CHAINS];
    KvBlocks<T> kv;
    const uint32_t* tables;  // [sequences, max_blocks]
    int max_blocks;
    int stack_count;
    const PrefillTile* prefill;
    const DecodeStack* stacks;
    const DecodeRange* ranges;
    float* partials;
    float scale;  // the softmax scale times log2(e)

    __device__ __forceinline__ const uint32_t* table(int sequence) const {
        return tables + static_cast<int64_t>(sequence) * max_blocks;
    }
};

// The keys and values of one sequence and head, KEYS at a time, double-buffered in shared memory:
// one stage is computed on while the other is filled.
template <class T, int HEAD_DIM, int KEYS>
struct KeyTiles {
    using Rows = SharedRows<T, HEAD_DIM>;
    static constexpr int TILE_BYTES = KEYS * HEAD_DIM * sizeof(T);
    static constexpr int SHARED_BYTES = 4 * TILE_BYTES;

    const KvBlocks<T>& kv;
    const uint32_t* table;
    int head;
    unsigned char* shared;
    int end_key;  // keys and values from here on are not read, and count as 0

    __device__ __forceinline__ Rows keys(int stage) const {
        return {reinterpret_cast<T*>(shared + 2 * stage * TILE_BYTES)};
    }
    __device__ __forceinline__ Rows values(int stage) const {
        return {reinterpret_cast<T*>(shared + (2 * stage + 1) * TILE_BYTES)};
    }

    // Starts the copy of the tile at `first_key`, a multiple of KEYS.
    __device__ __forceinline__ void load(int stage, int first_key) const {
        constexpr int ROWS_AT_ONCE = ATTENTION_THREADS / Rows::VECTORS;
        static_assert(ROWS_AT_ONCE % Rows::PERIOD == 0,
                      "a thread's vectors have the same place in every row");
        constexpr bool SEVERAL_GROUPS = ROWS_AT_ONCE > POSITION_GROUP;
        constexpr int STEP = SEVERAL_GROUPS ? ROWS_AT_ONCE : POSITION_GROUP;
        const int own = threadIdx.x / Rows::VECTORS, vector = threadIdx.x % Rows::VECTORS;
        const int own_group = SEVERAL_GROUPS ? own / POSITION_GROUP * POSITION_GROUP : 0;
        T* const to_keys = keys(stage).vector(own, vector);
        T* const to_values = values(stage).vector(own, vector);
        // Unrolled by 2 only: more addresses would take registers that the accumulators need.
#pragma unroll 2
        for (int start = 0; start < KEYS; start += STEP) {
            const int group = first_key + start + own_group;
            const int table_index = kv.table_index(group);
            const uint32_t block = group < end_key ? __ldg(table + table_index) : 0;
            const size_t from =
                kv.template row<HEAD_DIM>(block, head, group - table_index * kv.block_size) +
                (own - own_group) * HEAD_DIM + vector * VECTOR;
#pragma unroll
            for (int pass = 0; pass < STEP; pass += ROWS_AT_ONCE) {
                const bool valid = first_key + start + pass + own < end_key;
                const int row = (start + pass) * HEAD_DIM;
                cp_async16(to_keys + row, kv.keys + from + pass * HEAD_DIM, valid);
                cp_async16(to_values + row, kv.values + from + pass * HEAD_DIM, valid);
            }
        }
    }

    // Starts the copy of the first tile, which begins at `first_key`.
    __device__ __forceinline__ void start(int first_key) const {
        load(0, first_key);
        cp_async_commit();
    }

    // Calls `attend(keys, values, first_key)` for every tile from `first_key` to the end, after
    // `start(first_key)`. Earlier committed copies and stores of all threads are visible from the
    // first call on.
    template <class Attend>
    __device__ __forceinline__ void for_each(int first_key, Attend attend) const {
        for (int stage = 0; first_key < end_key; first_key += KEYS, stage ^= 1) {
            cp_async_wait<0>();
            // All copies of the tile have arrived, and no thread reads the other stage any more.
            __syncthreads();
            if (first_key + KEYS < end_key) load(stage ^ 1, first_key + KEYS);
            cp_async_commit();
            attend(keys(stage), values(stage), first_key);
        }
    }
};

}  // namespace colm
