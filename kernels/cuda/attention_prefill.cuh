// Attention for ranges of many rows: a thread block computes 128 queries over all keys they see.
#pragma once

#include "chain_attention.cuh"

namespace colm {

// The queries of one tile, counted from 0.
template <class T, int HEAD_DIM>
struct TileQueries {
    const AttentionChain<T>& chain;
    const PrefillTile& tile;

    __device__ __forceinline__ int row(int query) const {
        return (tile.first_query + query) / chain.group;
    }

    __device__ __forceinline__ int head(int query) const {
        return (tile.kv_head - chain.first_kv_head) * chain.group +
               (tile.first_query + query) % chain.group;
    }

    // Queries past the last have its position.
    __device__ __forceinline__ int position(int query) const {
        return tile.first_position + row(min(query, tile.queries - 1));
    }

    __device__ __forceinline__ int last_position() const { return position(tile.queries - 1); }

    __device__ __forceinline__ const T* q(int query) const {
        return chain.q + (tile.first_row + row(query)) * chain.q_stride + head(query) * HEAD_DIM;
    }

    __device__ __forceinline__ T* out(int query) const {
        const int64_t row_start = static_cast<int64_t>(tile.first_row + row(query)) * chain.heads;
        return chain.out + (row_start + head(query)) * HEAD_DIM;
    }
};

// The queries of a tile in shared memory, and the last position that each of them sees.
template <class T, int HEAD_DIM>
struct SharedQueries {
    using Rows = SharedRows<T, HEAD_DIM>;
    static constexpr int ROW_BYTES = PREFILL_QUERIES * HEAD_DIM * sizeof(T);
    static constexpr int BYTES = ROW_BYTES + PREFILL_QUERIES * sizeof(int);
    static_assert(PREFILL_QUERIES <= ATTENTION_THREADS, "a thread stores one position");

    unsigned char* shared;

    __device__ __forceinline__ Rows rows() const { return {reinterpret_cast<T*>(shared)}; }
    __device__ __forceinline__ int* positions() const {
        return reinterpret_cast<int*>(shared + ROW_BYTES);
    }

    // Starts the copy of the queries. Rows past the last query are zeroed.
    __device__ __forceinline__ void load(const TileQueries<T, HEAD_DIM>& queries) const {
        const int vector = threadIdx.x % Rows::VECTORS;
        for (int query = threadIdx.x / Rows::VECTORS; query < PREFILL_QUERIES;
             query += ATTENTION_THREADS / Rows::VECTORS) {
            const bool valid = query < queries.tile.queries;
            const T* from = valid ? queries.q(query) + vector * VECTOR : queries.chain.q;
            cp_async16(rows().vector(query, vector), from, valid);
        }
        // Without the condition, which always holds, ptxas of CUDA 13.0 spills a register.
        if (threadIdx.x < PREFILL_QUERIES) positions()[threadIdx.x] = queries.position(threadIdx.x);
    }
};

// Each warp computes 32 queries of the tile over all keys.
template <class T, int HEAD_DIM>
struct Prefill {
    static constexpr int WARP_QUERIES = PREFILL_QUERIES / ATTENTION_WARPS;
    using Warp = WarpAttention<T, HEAD_DIM, WARP_QUERIES / 16, TILE_KEYS>;
    using Tiles = KeyTiles<T, HEAD_DIM, TILE_KEYS>;
    static constexpr int TILES_AT = SharedQueries<T, HEAD_DIM>::BYTES;
    static constexpr int SHARED_BYTES = TILES_AT + Tiles::SHARED_BYTES;
};

// Rounds the warp's results and writes them as 16-byte vectors, through the warp's own rows of
// `staging`.
template <class T, int HEAD_DIM, class Warp>
__device__ __forceinline__ void write_rows(const Warp& warp, SharedRows<T, HEAD_DIM> staging,
                                           int first, int queries,
                                           const TileQueries<T, HEAD_DIM>& tile) {
    constexpr int VECTORS = SharedRows<T, HEAD_DIM>::VECTORS;
    constexpr int ROWS = Prefill<T, HEAD_DIM>::WARP_QUERIES;
    const int lane = threadIdx.x % WARP;
    __syncwarp();
#pragma unroll
    for (int r = 0; r < ROWS / 16; ++r) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int row = first + 16 * r + 8 * half + lane / 4;
            const float inverse = 1.0f / warp.sum[r][half];
#pragma unroll
            for (int d = 0; d < VECTORS; ++d) {
                const float(&pair)[4] = warp.out[r][d];
                *reinterpret_cast<uint32_t*>(staging.vector(row, d) + 2 * (lane % 4)) =
                    pack2<T>(pair[2 * half] * inverse, pair[2 * half + 1] * inverse);
            }
        }
    }
    __syncwarp();
    for (int row = first + lane / VECTORS; row < min(first + ROWS, queries);
         row += WARP / VECTORS) {
        const int vector = lane % VECTORS;
        store_vector(tile.out(row) + vector * VECTOR, load_vector(staging.vector(row, vector)));
    }
}

template <class T, int HEAD_DIM>
__global__ void __launch_bounds__(ATTENTION_THREADS, 2)
    prefill_attention(const __grid_constant__ AttentionParameters<T> parameters) {
    using Kernel = Prefill<T, HEAD_DIM>;
    COLM_SHARED(shared);
    const PrefillTile& tile = parameters.prefill[blockIdx.x];
    const TileQueries<T, HEAD_DIM> queries{parameters.chains[tile.chain], tile};
    const SharedQueries<T, HEAD_DIM> shared_queries{shared};
    shared_queries.load(queries);
    const typename Kernel::Tiles tiles{parameters.kv, parameters.table(tile.sequence), tile.kv_head,
                                       shared + Kernel::TILES_AT, queries.last_position() + 1};

    const int first = threadIdx.x / WARP * Kernel::WARP_QUERIES;
    const int first_position = queries.position(first);
    // A warp without queries sees no key.
    const int last_position =
        first < tile.queries ? queries.position(first + Kernel::WARP_QUERIES - 1) : -1;
    typename Kernel::Warp warp;
    tiles.start(0);
    tiles.for_each(0, [&](auto keys, auto values, int first_key) {
        if (first_key > last_position) return;
        const bool diagonal = first_key + TILE_KEYS - 1 > first_position;
        warp.attend(shared_queries.rows(), first, keys, values, 0, first_key,
                    diagonal ? shared_queries.positions() : nullptr, parameters.scale);
    });
    warp.finish();
    write_rows(warp, shared_queries.rows(), first, tile.queries, queries);
}

}  // namespace colm
