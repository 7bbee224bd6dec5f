// Attention for ranges of few rows (flash-decoding): a thread block computes 16 queries of a stack
// over one split of the keys, and a second kernel combines the splits.
#pragma once

#include "decode_stack.cuh"

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
    using Rows = SharedRows<T, HEAD_DIM>;
    // Shared memory: the queries, the tiles of keys and values, and the table.
    static constexpr int TILES_AT = COLM_DECODE_QUERIES * HEAD_DIM * sizeof(T);
    static constexpr int TABLE_AT = TILES_AT + Tiles::SHARED_BYTES;
    static constexpr int SHARED_BYTES = TABLE_AT + sizeof(DecodeTable<T>);
    static_assert(SPLIT_KEYS % TILE_KEYS == 0, "a split is whole tiles");
    static_assert(ATTENTION_WARPS * Partial<HEAD_DIM>::FLOATS * sizeof(float) <= TABLE_AT,
                  "the warps' partial results reuse the memory of the queries and the tiles");

    // Starts the copy of the queries of the table. Rows past the last query are zeroed.
    __device__ static __forceinline__ void load(Rows to, const DecodeTable<T>& table, int queries) {
        const int vector = threadIdx.x % Rows::VECTORS;
        for (int query = threadIdx.x / Rows::VECTORS; query < COLM_DECODE_QUERIES;
             query += ATTENTION_THREADS / Rows::VECTORS) {
            cp_async16(to.vector(query, vector), table.q[query] + vector * VECTOR, query < queries);
        }
    }
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

// Merges the partial results of the warps, consecutive in shared memory, into that of the thread
// block. Eight threads merge one query; each takes every eighth group of four numbers.
template <class T, int HEAD_DIM>
__device__ __forceinline__ void merge_warps(const DecodeTable<T>& table, float* of_warps,
                                            const AttentionParameters<T>& parameters) {
    constexpr int THREADS_PER_QUERY = ATTENTION_THREADS / COLM_DECODE_QUERIES;
    const auto of_warp = [&](int i) {
        return Partial<HEAD_DIM>{of_warps + i * Partial<HEAD_DIM>::FLOATS};
    };
    const int query = threadIdx.x / THREADS_PER_QUERY;
    if (query >= table.queries) return;
    float maximum = NO_MAXIMUM, sum = 0.0f, weights[ATTENTION_WARPS];
#pragma unroll
    for (int i = 0; i < ATTENTION_WARPS; ++i) maximum = fmaxf(maximum, of_warp(i).maximum(query));
#pragma unroll
    for (int i = 0; i < ATTENTION_WARPS; ++i) {
        weights[i] = exp2_approx(of_warp(i).maximum(query) - maximum);
        sum += weights[i] * of_warp(i).sum(query);
    }
    const bool only_split = table.partial < 0;
    const auto partial = partial_of<T, HEAD_DIM>(parameters, max(table.partial, 0));
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
            *reinterpret_cast<uint2*>(table.out[query] + column) =
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
    DecodeTable<T>& table = *reinterpret_cast<DecodeTable<T>*>(shared + Kernel::TABLE_AT);
    const int block_index = static_cast<int>(blockIdx.x);
    const DecodeStack& stack = find_stack(
        parameters.stacks, parameters.stack_count, block_index,
        [](const DecodeStack& stack) { return stack.first_block; }, &table.stack);
    const int block = block_index - stack.first_block;
    const int tiles_per_head = stack.tiles(), splits = stack.splits();
    const int tile = block % tiles_per_head, split = block / tiles_per_head % splits;
    const int head = block / tiles_per_head / splits;
    const int first_key = split * SPLIT_KEYS;
    const typename Kernel::Tiles tiles{parameters.kv, parameters.table(stack.sequence),
                                       stack.first_kv_head + head, shared + Kernel::TILES_AT,
                                       min(first_key + SPLIT_KEYS, stack.visible)};
    tiles.start(first_key);

    // The queries are looked up while the first keys arrive.
    const int first_query = tile * COLM_DECODE_QUERIES;
    const int queries = min(COLM_DECODE_QUERIES, stack.queries - first_query);
    if (threadIdx.x == 0) {
        const int tile_of_stack = head * tiles_per_head + tile;
        table.queries = queries;
        table.partial = splits == 1 ? -1 : stack.first_partial + tile_of_stack * splits + split;
    }
    if (threadIdx.x < COLM_DECODE_QUERIES) {
        const int query = first_query + min(static_cast<int>(threadIdx.x), queries - 1);
        table.set(threadIdx.x,
                  decode_query<T, HEAD_DIM>(parameters, stack, stack.first_kv_head + head, query));
    }
    __syncthreads();
    const typename Kernel::Rows shared_queries{reinterpret_cast<T*>(shared)};
    Kernel::load(shared_queries, table, queries);
    cp_async_commit();
    int first_position = table.positions[0], last_position = first_position;
#pragma unroll
    for (int query = 1; query < COLM_DECODE_QUERIES; ++query) {
        first_position = min(first_position, table.positions[query]);
        last_position = max(last_position, table.positions[query]);
    }

    const int own_warp = threadIdx.x / WARP;
    const int key_row = own_warp * Kernel::WARP_KEYS;
    typename Kernel::Warp warp;
    tiles.for_each(first_key, [&](auto keys, auto values, int tile_key) {
        const int warp_key = tile_key + key_row;
        if (warp_key > last_position) return;
        const bool diagonal = warp_key + Kernel::WARP_KEYS - 1 > first_position;
        warp.attend(shared_queries, 0, keys, values, key_row, warp_key,
                    diagonal ? table.positions : nullptr, parameters.scale);
    });
    warp.finish();

    // The partial results reuse the memory of the queries and the tiles.
    __syncthreads();
    float* const of_warps = reinterpret_cast<float*>(shared);
    store<HEAD_DIM>(warp, {of_warps + own_warp * Partial<HEAD_DIM>::FLOATS});
    __syncthreads();
    merge_warps<T, HEAD_DIM>(table, of_warps, parameters);
}

// Per warp HEAD_DIM numbers, the maximum and the sum; and the index of the stack.
template <int HEAD_DIM>
constexpr size_t COMBINE_SHARED_BYTES =
    (ATTENTION_WARPS * (HEAD_DIM + 2)) * sizeof(float) + sizeof(int);

// Combines the splits of one query. Warps take every fourth split; their results are merged last.
template <class T, int HEAD_DIM>
__global__ void __launch_bounds__(ATTENTION_THREADS)
    combine_attention(const __grid_constant__ AttentionParameters<T> parameters) {
    COLM_SHARED(shared);
    int* const found =
        reinterpret_cast<int*>(shared + COMBINE_SHARED_BYTES<HEAD_DIM> - sizeof(int));
    const int block_index = static_cast<int>(blockIdx.x), query = static_cast<int>(blockIdx.y);
    const DecodeStack& stack = find_stack(
        parameters.stacks, parameters.stack_count, block_index,
        [](const DecodeStack& stack) { return stack.first_combined; }, found);
    const int combined = block_index - stack.first_combined;
    const int tiles_per_head = stack.tiles();
    const int index = combined % tiles_per_head * COLM_DECODE_QUERIES + query;
    if (index >= stack.queries) return;
    const DecodeQuery<T> own = decode_query<T, HEAD_DIM>(
        parameters, stack, stack.first_kv_head + combined / tiles_per_head, index);
    const int first_partial = stack.first_partial + combined * stack.splits();
    const int splits = own.position / SPLIT_KEYS + 1;
    constexpr int COLUMNS = HEAD_DIM / WARP;
    const int lane = threadIdx.x % WARP, own_warp = threadIdx.x / WARP;
    float maximum = NO_MAXIMUM, sum = 0.0f, out[COLUMNS] = {};
#pragma unroll 4
    for (int split = own_warp; split < splits; split += ATTENTION_WARPS) {
        const Partial<HEAD_DIM> partial =
            partial_of<T, HEAD_DIM>(parameters, first_partial + split);
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
    own.out[column] = from_float<T>(merged * (1.0f / merged_sum));
}

}  // namespace colm
