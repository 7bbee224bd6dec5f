// Attention for ranges of many rows: a thread block computes 128 queries over all keys they see.
#pragma once

#include "chain_attention.cuh"

namespace colm {

// Each warp computes 32 queries of the tile over all keys.
template <class T, int HEAD_DIM>
struct Prefill {
    static constexpr int WARP_QUERIES = PREFILL_QUERIES / ATTENTION_WARPS;
    using Warp = WarpAttention<T, HEAD_DIM, WARP_QUERIES / 16, TILE_KEYS>;
    using Tiles = KeyTiles<T, HEAD_DIM, TILE_KEYS>;
    using SharedQueries = QueryTile<T, HEAD_DIM, PREFILL_QUERIES>;
    static constexpr int SHARED_BYTES = SharedQueries::SHARED_BYTES + Tiles::SHARED_BYTES;
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
    const ColmAttentionItem& item = parameters.items[blockIdx.x];
    const TileQueries<T, HEAD_DIM> queries{parameters.chains[item.chain], item};
    const typename Kernel::SharedQueries shared_queries{shared};
    shared_queries.load(queries);
    const typename Kernel::Tiles tiles{
        parameters.kv,
        parameters.tables + static_cast<int64_t>(item.sequence) * parameters.max_blocks,
        item.kv_head, shared + Kernel::SharedQueries::SHARED_BYTES, queries.last_position() + 1};

    const int first = threadIdx.x / WARP * Kernel::WARP_QUERIES;
    const int first_position = queries.position(first);
    // A warp without queries sees no key.
    const int last_position =
        first < item.queries ? queries.position(first + Kernel::WARP_QUERIES - 1) : -1;
    typename Kernel::Warp warp;
    tiles.for_each(0, [&](auto keys, auto values, int first_key) {
        if (first_key > last_position) return;
        const bool diagonal = first_key + TILE_KEYS - 1 > first_position;
        warp.attend(shared_queries.rows(), first, keys, values, 0, first_key,
                    diagonal ? shared_queries.positions() : nullptr, parameters.scale);
    });
    warp.finish();
    write_rows(warp, shared_queries.rows(), first, item.queries, queries);
}

}  // namespace colm
