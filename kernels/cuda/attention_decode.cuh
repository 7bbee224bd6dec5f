// Attention for ranges of few rows (flash-decoding): a thread block computes 16 queries over one
// split of the keys, and a second kernel merges the splits.
#pragma once

#include "chain_attention.cuh"

namespace colm {

// The unfinished softmax of a tile's queries over some keys. `out` is the sum of
// exp2(score - maximum) * value, `sum` the sum of exp2(score - maximum).
template <int HEAD_DIM>
struct Partial {
    static constexpr int FLOATS = COLM_DECODE_QUERIES * (HEAD_DIM + 2);

    float* start;

    __device__ __forceinline__ float* out(int query) const { return start + query * HEAD_DIM; }
    __device__ __forceinline__ float& maximum(int query) const {
        return start[COLM_DECODE_QUERIES * HEAD_DIM + query];
    }
    __device__ __forceinline__ float& sum(int query) const {
        return start[COLM_DECODE_QUERIES * (HEAD_DIM + 1) + query];
    }
};

template <class T, int HEAD_DIM>
__device__ __forceinline__ Partial<HEAD_DIM> partial_of(const AttentionParameters<T>& parameters,
                                                        int index) {
    return {parameters.partials + static_cast<int64_t>(index) * Partial<HEAD_DIM>::FLOATS};
}

// The warps compute the same 16 queries and divide the keys of a tile.
template <class T, int HEAD_DIM>
struct Decode {
    static constexpr int WARP_KEYS = TILE_KEYS / ATTENTION_WARPS;
    using Warp = WarpAttention<T, HEAD_DIM, 1, WARP_KEYS>;
    using Tiles = KeyTiles<T, HEAD_DIM, TILE_KEYS>;
    using SharedQueries = QueryTile<T, HEAD_DIM, COLM_DECODE_QUERIES>;
    static constexpr int SHARED_BYTES = SharedQueries::SHARED_BYTES + Tiles::SHARED_BYTES;
    static_assert(SPLIT_KEYS % TILE_KEYS == 0, "a split is whole tiles");
    static_assert(ATTENTION_WARPS * Partial<HEAD_DIM>::FLOATS * sizeof(float) <= SHARED_BYTES,
                  "the warps' partial results reuse the memory of the tiles");
};

// Stores a warp's partial result in shared memory.
template <int HEAD_DIM, class Warp>
__device__ __forceinline__ void store(const Warp& warp, Partial<HEAD_DIM> to) {
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int query = lane / 4 + 8 * half;
        to.maximum(query) = warp.maximum[0][half];
        to.sum(query) = warp.sum[0][half];
#pragma unroll
        for (int d = 0; d < HEAD_DIM / 8; ++d) {
            *reinterpret_cast<float2*>(to.out(query) + 8 * d + 2 * (lane % 4)) =
                make_float2(warp.out[0][d][2 * half], warp.out[0][d][2 * half + 1]);
        }
    }
}

// Merges the partial results of the warps, consecutive in shared memory, into that of the item.
// Eight threads merge one query; each takes every eighth group of four numbers.
template <class T, int HEAD_DIM>
__device__ __forceinline__ void merge_warps(const TileQueries<T, HEAD_DIM>& queries,
                                            float* of_warps,
                                            const AttentionParameters<T>& parameters) {
    constexpr int THREADS_PER_QUERY = ATTENTION_THREADS / COLM_DECODE_QUERIES;
    const auto of_warp = [&](int i) {
        return Partial<HEAD_DIM>{of_warps + i * Partial<HEAD_DIM>::FLOATS};
    };
    const int query = threadIdx.x / THREADS_PER_QUERY;
    if (query >= queries.item.queries) return;
    float maximum = NO_MAXIMUM, sum = 0.0f, weights[ATTENTION_WARPS];
#pragma unroll
    for (int i = 0; i < ATTENTION_WARPS; ++i) maximum = fmaxf(maximum, of_warp(i).maximum(query));
#pragma unroll
    for (int i = 0; i < ATTENTION_WARPS; ++i) {
        weights[i] = exp2_approx(of_warp(i).maximum(query) - maximum);
        sum += weights[i] * of_warp(i).sum(query);
    }
    const bool only_split = queries.item.partial < 0;
    const auto partial = partial_of<T, HEAD_DIM>(parameters, max(queries.item.partial, 0));
    const int first = threadIdx.x % THREADS_PER_QUERY * 4;
    for (int column = first; column < HEAD_DIM; column += THREADS_PER_QUERY * 4) {
        float merged[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int i = 0; i < ATTENTION_WARPS; ++i) {
            const float4 part = *reinterpret_cast<const float4*>(of_warp(i).out(query) + column);
            merged[0] += weights[i] * part.x;
            merged[1] += weights[i] * part.y;
            merged[2] += weights[i] * part.z;
            merged[3] += weights[i] * part.w;
        }
        if (only_split) {
            const float inverse = 1.0f / sum;
            *reinterpret_cast<uint2*>(queries.out(query) + column) =
                make_uint2(pack2<T>(merged[0] * inverse, merged[1] * inverse),
                           pack2<T>(merged[2] * inverse, merged[3] * inverse));
        } else {
            *reinterpret_cast<float4*>(partial.out(query) + column) =
                make_float4(merged[0], merged[1], merged[2], merged[3]);
        }
    }
    if (!only_split && first == 0) {
        partial.maximum(query) = maximum;
        partial.sum(query) = sum;
    }
}

template <class T, int HEAD_DIM>
__global__ void __launch_bounds__(ATTENTION_THREADS)
    decode_attention(const __grid_constant__ AttentionParameters<T> parameters) {
    using Kernel = Decode<T, HEAD_DIM>;
    COLM_SHARED(shared);
    const ColmAttentionItem& item = parameters.items[blockIdx.x];
    const TileQueries<T, HEAD_DIM> queries{parameters.chains[item.chain], item};
    const typename Kernel::SharedQueries shared_queries{shared};
    shared_queries.load(queries);
    const int first_position = queries.position(0), last_position = queries.last_position();
    const typename Kernel::Tiles tiles{
        parameters.kv,
        parameters.tables + static_cast<int64_t>(item.sequence) * parameters.max_blocks,
        item.kv_head, shared + Kernel::SharedQueries::SHARED_BYTES,
        min(item.first_key + SPLIT_KEYS, last_position + 1)};

    const int own_warp = threadIdx.x / WARP;
    const int key_row = own_warp * Kernel::WARP_KEYS;
    typename Kernel::Warp warp;
    tiles.for_each(item.first_key, [&](auto keys, auto values, int tile_key) {
        const int first_key = tile_key + key_row;
        if (first_key > last_position) return;
        const bool diagonal = first_key + Kernel::WARP_KEYS - 1 > first_position;
        warp.attend(shared_queries.rows(), 0, keys, values, key_row, first_key,
                    diagonal ? shared_queries.positions() : nullptr, parameters.scale);
    });
    warp.finish();

    // The partial results reuse the memory of the tiles.
    __syncthreads();
    float* const of_warps = reinterpret_cast<float*>(shared);
    store<HEAD_DIM>(warp, {of_warps + own_warp * Partial<HEAD_DIM>::FLOATS});
    __syncthreads();
    merge_warps(queries, of_warps, parameters);
}

// Merges the splits of one query. Warps take every fourth split; their results are merged last.
template <class T, int HEAD_DIM>
__global__ void __launch_bounds__(ATTENTION_THREADS)
    combine_attention(const __grid_constant__ AttentionParameters<T> parameters) {
    COLM_SHARED(shared);
    const ColmAttentionItem& item = parameters.items[blockIdx.x];
    const int query = blockIdx.y;
    if (query >= item.queries) return;
    const TileQueries<T, HEAD_DIM> queries{parameters.chains[item.chain], item};
    const int splits = queries.position(query) / SPLIT_KEYS + 1;
    constexpr int COLUMNS = HEAD_DIM / WARP;
    const int lane = threadIdx.x % WARP, own_warp = threadIdx.x / WARP;
    float maximum = NO_MAXIMUM, sum = 0.0f, out[COLUMNS] = {};
#pragma unroll 4
    for (int split = own_warp; split < splits; split += ATTENTION_WARPS) {
        const Partial<HEAD_DIM> partial = partial_of<T, HEAD_DIM>(parameters, item.partial + split);
        const float before = maximum;
        maximum = fmaxf(before, partial.maximum(query));
        const float shrink = exp2_approx(before - maximum);
        const float weight = exp2_approx(partial.maximum(query) - maximum);
        sum = sum * shrink + partial.sum(query) * weight;
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) {
            out[i] = out[i] * shrink + partial.out(query)[lane + WARP * i] * weight;
        }
    }

    // Per warp: HEAD_DIM numbers, the maximum and the sum.
    const auto of_warp = [&](int i) {
        return reinterpret_cast<float*>(shared) + i * (HEAD_DIM + 2);
    };
#pragma unroll
    for (int i = 0; i < COLUMNS; ++i) of_warp(own_warp)[lane + WARP * i] = out[i];
    if (lane == 0) {
        of_warp(own_warp)[HEAD_DIM] = maximum;
        of_warp(own_warp)[HEAD_DIM + 1] = sum;
    }
    __syncthreads();
    const int column = threadIdx.x;
    if (column >= HEAD_DIM) return;
    maximum = NO_MAXIMUM;
    for (int i = 0; i < ATTENTION_WARPS; ++i) maximum = fmaxf(maximum, of_warp(i)[HEAD_DIM]);
    float merged = 0.0f, merged_sum = 0.0f;
    for (int i = 0; i < ATTENTION_WARPS; ++i) {
        const float weight = exp2_approx(of_warp(i)[HEAD_DIM] - maximum);
        merged += of_warp(i)[column] * weight;
        merged_sum += of_warp(i)[HEAD_DIM + 1] * weight;
    }
    queries.out(query)[column] = from_float<T>(merged * (1.0f / merged_sum));
}

}  // namespace colm
