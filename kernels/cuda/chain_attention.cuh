// What the kernels of chain_attention are given, and how they move tiles of it to shared memory.
#pragma once

#include "attention_plan.cuh"
#include "attention_tile.cuh"
#include "kv_blocks.cuh"

// One chain's queries and result, on the device.
struct ColmChainTensors {
    const void* q;  // [active rows, heads, head_dim], rows `q_stride` numbers apart
    void* out;      // [active rows, heads, head_dim], contiguous
    int64_t q_stride;
};

namespace colm {

constexpr int MAX_CHAINS = 32;
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

// Parameters of all three kernels.
template <class T>
struct AttentionParameters {
    AttentionChain<T> chains[MAX_CHAINS];
    KvBlocks<T> kv;
    const uint32_t* tables;  // [sequences, max_blocks]
    int max_blocks;
    const ColmAttentionItem* items;
    float* partials;
    float scale;  // the softmax's times log2(e)
};

// The query slots of one item, numbered from 0 within it.
template <class T, int HEAD_DIM>
struct TileSlots {
    const AttentionChain<T>& chain;
    const ColmAttentionItem& item;

    __device__ __forceinline__ int row(int slot) const {
        return (item.first_slot + slot) / chain.group;
    }

    __device__ __forceinline__ int head(int slot) const {
        return (item.kv_head - chain.first_kv_head) * chain.group +
               (item.first_slot + slot) % chain.group;
    }

    // Slots past the last stand where the last does.
    __device__ __forceinline__ int position(int slot) const {
        return item.first_position + row(min(slot, item.slots - 1));
    }

    __device__ __forceinline__ int last_position() const { return position(item.slots - 1); }

    __device__ __forceinline__ const T* q(int slot) const {
        return chain.q + (item.first_row + row(slot)) * chain.q_stride + head(slot) * HEAD_DIM;
    }

    __device__ __forceinline__ T* out(int slot) const {
        const int64_t row_start = static_cast<int64_t>(item.first_row + row(slot)) * chain.heads;
        return chain.out + (row_start + head(slot)) * HEAD_DIM;
    }
};

// The queries of a tile in shared memory, and the last position each slot sees.
template <class T, int HEAD_DIM, int SLOTS>
struct QueryTile {
    using Rows = SharedRows<T, HEAD_DIM>;
    static constexpr int ROW_BYTES = SLOTS * HEAD_DIM * sizeof(T);
    static constexpr int SHARED_BYTES = ROW_BYTES + SLOTS * sizeof(int);

    unsigned char* shared;

    __device__ __forceinline__ Rows rows() const { return {reinterpret_cast<T*>(shared)}; }
    __device__ __forceinline__ int* positions() const {
        return reinterpret_cast<int*>(shared + ROW_BYTES);
    }

    // Starts the copy of the queries; rows past the last slot become 0.
    __device__ __forceinline__ void load(const TileSlots<T, HEAD_DIM>& slots) const {
        const int vector = threadIdx.x % Rows::VECTORS;
        for (int slot = threadIdx.x / Rows::VECTORS; slot < SLOTS;
             slot += ATTENTION_THREADS / Rows::VECTORS) {
            const bool valid = slot < slots.item.slots;
            const T* from = valid ? slots.q(slot) + vector * VECTOR : slots.chain.q;
            cp_async16(rows().vector(slot, vector), from, valid);
        }
        if (threadIdx.x < SLOTS) positions()[threadIdx.x] = slots.position(threadIdx.x);
    }
};

// The keys and values of one sequence and head, KEYS at a time through two stages of shared memory:
// one is computed on while the other is filled.
template <class T, int HEAD_DIM, int KEYS>
struct KeyTiles {
    using Rows = SharedRows<T, HEAD_DIM>;
    static constexpr int TILE_BYTES = KEYS * HEAD_DIM * sizeof(T);
    static constexpr int SHARED_BYTES = 4 * TILE_BYTES;

    const KvBlocks<T>& kv;
    const uint32_t* table;
    int head;
    unsigned char* shared;
    int end_key;  // what is cached from here on is not read, and counts as 0

    __device__ __forceinline__ Rows keys(int stage) const {
        return {reinterpret_cast<T*>(shared + 2 * stage * TILE_BYTES)};
    }
    __device__ __forceinline__ Rows values(int stage) const {
        return {reinterpret_cast<T*>(shared + (2 * stage + 1) * TILE_BYTES)};
    }

    // Starts the copy of the tile from `first_key` on, a multiple of KEYS.
    __device__ __forceinline__ void load(int stage, int first_key) const {
        constexpr int ROWS_AT_ONCE = ATTENTION_THREADS / Rows::VECTORS;
        static_assert(ROWS_AT_ONCE % Rows::PERIOD == 0,
                      "a thread's vectors have one place in a row");
        constexpr bool SEVERAL_GROUPS = ROWS_AT_ONCE > POSITION_GROUP;
        constexpr int STEP = SEVERAL_GROUPS ? ROWS_AT_ONCE : POSITION_GROUP;
        const int own = threadIdx.x / Rows::VECTORS, vector = threadIdx.x % Rows::VECTORS;
        const int own_group = SEVERAL_GROUPS ? own / POSITION_GROUP * POSITION_GROUP : 0;
        T* const to_keys = keys(stage).vector(own, vector);
        T* const to_values = values(stage).vector(own, vector);
        // Two at a time: the addresses of all would take registers that the accumulators need.
#pragma unroll 2
        for (int start = 0; start < KEYS; start += STEP) {
            const int group = first_key + start + own_group;
            const int place = kv.block_of(group);
            const uint32_t block = group < end_key ? __ldg(table + place) : 0;
            const size_t from =
                kv.template row<HEAD_DIM>(block, head, group - place * kv.block_size) +
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

    // Calls `attend(keys, values, first_key)` for every tile from `first_key` to the end. What the
    // threads copied or stored before is there in the first call.
    template <class Attend>
    __device__ __forceinline__ void for_each(int first_key, Attend attend) const {
        load(0, first_key);
        cp_async_commit();
        for (int stage = 0; first_key < end_key; first_key += KEYS, stage ^= 1) {
            cp_async_wait<0>();
            // The tile is there, and nobody reads the other stage any more.
            __syncthreads();
            if (first_key + KEYS < end_key) load(stage ^ 1, first_key + KEYS);
            cp_async_commit();
            attend(keys(stage), values(stage), first_key);
        }
    }
};

}  // namespace colm
