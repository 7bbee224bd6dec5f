// Attention of ranges of few rows: a block takes 16 query slots over one split of the keys, and
// another kernel merges the splits.
#pragma once

#include "chain_attention.cuh"

namespace colm {

// An unfinished result of some slots: `out / sum` is relative to the keys it covers, and `maximum`
// (base 2) tells how much they weigh beside others.
template <int HEAD_DIM>
struct Partial {
    static constexpr int FLOATS = DECODE_SLOTS * (HEAD_DIM + 2);

    float* start;

    __device__ __forceinline__ float* out(int slot) const { return start + slot * HEAD_DIM; }
    __device__ __forceinline__ float& maximum(int slot) const {
        return start[DECODE_SLOTS * HEAD_DIM + slot];
    }
    __device__ __forceinline__ float& sum(int slot) const {
        return start[DECODE_SLOTS * (HEAD_DIM + 1) + slot];
    }
};

template <class T, int HEAD_DIM>
__device__ __forceinline__ Partial<HEAD_DIM> partial_of(const AttentionParameters<T>& parameters,
                                                        int index) {
    return {parameters.partials + static_cast<int64_t>(index) * Partial<HEAD_DIM>::FLOATS};
}

// The warps have the same 16 slots and share out the keys of a tile.
template <class T, int HEAD_DIM>
struct Decode {
    static constexpr int WARP_KEYS = TILE_KEYS / ATTENTION_WARPS;
    using Warp = WarpAttention<T, HEAD_DIM, 1, WARP_KEYS>;
    using Tiles = KeyTiles<T, HEAD_DIM, TILE_KEYS>;
    using Queries = QueryTile<T, HEAD_DIM, DECODE_SLOTS>;
    static constexpr int SHARED_BYTES = Queries::SHARED_BYTES + Tiles::SHARED_BYTES;
    static_assert(SPLIT_KEYS % TILE_KEYS == 0, "a split is whole tiles");
    static_assert(ATTENTION_WARPS * Partial<HEAD_DIM>::FLOATS * sizeof(float) <= SHARED_BYTES,
                  "the warps' results take the place of the tiles");
};

// Leaves a warp's result of all slots in shared memory.
template <int HEAD_DIM, class Warp>
__device__ __forceinline__ void store(const Warp& warp, Partial<HEAD_DIM> to) {
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int slot = lane / 4 + 8 * half;
        to.maximum(slot) = warp.maximum[0][half];
        to.sum(slot) = warp.sum[0][half];
#pragma unroll
        for (int d = 0; d < HEAD_DIM / 8; ++d) {
            *reinterpret_cast<float2*>(to.out(slot) + 8 * d + 2 * (lane % 4)) =
                make_float2(warp.out[0][d][2 * half], warp.out[0][d][2 * half + 1]);
        }
    }
}

// Merges the warps' results, which stand one after the other, into the item's. Eight threads merge
// one slot, each every eighth group of four numbers.
template <class T, int HEAD_DIM>
__device__ __forceinline__ void merge_warps(const TileSlots<T, HEAD_DIM>& slots, float* of_warps,
                                            const AttentionParameters<T>& parameters) {
    constexpr int THREADS_PER_SLOT = ATTENTION_THREADS / DECODE_SLOTS;
    const auto of_warp = [&](int i) {
        return Partial<HEAD_DIM>{of_warps + i * Partial<HEAD_DIM>::FLOATS};
    };
    const int slot = threadIdx.x / THREADS_PER_SLOT;
    if (slot >= slots.item.slots) return;
    float maximum = NO_MAXIMUM, sum = 0.0f, weights[ATTENTION_WARPS];
#pragma unroll
    for (int i = 0; i < ATTENTION_WARPS; ++i) maximum = fmaxf(maximum, of_warp(i).maximum(slot));
#pragma unroll
    for (int i = 0; i < ATTENTION_WARPS; ++i) {
        weights[i] = exp2_approx(of_warp(i).maximum(slot) - maximum);
        sum += weights[i] * of_warp(i).sum(slot);
    }
    const bool whole = slots.item.partial < 0;
    const auto partial = partial_of<T, HEAD_DIM>(parameters, max(slots.item.partial, 0));
    const int first = threadIdx.x % THREADS_PER_SLOT * 4;
    for (int column = first; column < HEAD_DIM; column += THREADS_PER_SLOT * 4) {
        float merged[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int i = 0; i < ATTENTION_WARPS; ++i) {
            const float4 part = *reinterpret_cast<const float4*>(of_warp(i).out(slot) + column);
            merged[0] += weights[i] * part.x;
            merged[1] += weights[i] * part.y;
            merged[2] += weights[i] * part.z;
            merged[3] += weights[i] * part.w;
        }
        if (whole) {
            const float inverse = 1.0f / sum;
            *reinterpret_cast<uint2*>(slots.out(slot) + column) =
                make_uint2(pack2<T>(merged[0] * inverse, merged[1] * inverse),
                           pack2<T>(merged[2] * inverse, merged[3] * inverse));
        } else {
            *reinterpret_cast<float4*>(partial.out(slot) + column) =
                make_float4(merged[0], merged[1], merged[2], merged[3]);
        }
    }
    if (!whole && first == 0) {
        partial.maximum(slot) = maximum;
        partial.sum(slot) = sum;
    }
}

template <class T, int HEAD_DIM>
__global__ void __launch_bounds__(ATTENTION_THREADS)
    decode_attention(const __grid_constant__ AttentionParameters<T> parameters) {
    using Kernel = Decode<T, HEAD_DIM>;
    COLM_SHARED(shared);
    const ColmAttentionItem& item = parameters.items[blockIdx.x];
    const TileSlots<T, HEAD_DIM> slots{parameters.chains[item.chain], item};
    const typename Kernel::Queries queries{shared};
    queries.load(slots);
    const int first_position = slots.position(0), last_position = slots.last_position();
    const typename Kernel::Tiles tiles{
        parameters.kv,
        parameters.tables + static_cast<int64_t>(item.sequence) * parameters.max_blocks,
        item.kv_head, shared + Kernel::Queries::SHARED_BYTES,
        min(item.first_key + SPLIT_KEYS, last_position + 1)};

    const int own = threadIdx.x / WARP;
    const int key_row = own * Kernel::WARP_KEYS;
    typename Kernel::Warp warp;
    tiles.for_each(item.first_key, [&](auto keys, auto values, int tile_key) {
        const int first_key = tile_key + key_row;
        if (first_key > last_position) return;
        const bool diagonal = first_key + Kernel::WARP_KEYS - 1 > first_position;
        warp.attend(queries.rows(), 0, keys, values, key_row, first_key,
                    diagonal ? queries.positions() : nullptr, parameters.scale);
    });
    warp.finish();

    // The warps' results take the place of the tiles.
    __syncthreads();
    float* const of_warps = reinterpret_cast<float*>(shared);
    store<HEAD_DIM>(warp, {of_warps + own * Partial<HEAD_DIM>::FLOATS});
    __syncthreads();
    merge_warps(slots, of_warps, parameters);
}

// Merges the splits of one slot. The warps take the splits in turn, and are merged in the end.
template <class T, int HEAD_DIM>
__global__ void __launch_bounds__(ATTENTION_THREADS)
    combine_attention(const __grid_constant__ AttentionParameters<T> parameters) {
    COLM_SHARED(shared);
    const ColmAttentionItem& item = parameters.items[blockIdx.x];
    const int slot = blockIdx.y;
    if (slot >= item.slots) return;
    const TileSlots<T, HEAD_DIM> slots{parameters.chains[item.chain], item};
    const int splits = slots.position(slot) / SPLIT_KEYS + 1;
    constexpr int COLUMNS = HEAD_DIM / WARP;
    const int lane = threadIdx.x % WARP, own = threadIdx.x / WARP;
    float maximum = NO_MAXIMUM, sum = 0.0f, out[COLUMNS] = {};
#pragma unroll 4
    for (int split = own; split < splits; split += ATTENTION_WARPS) {
        const Partial<HEAD_DIM> partial = partial_of<T, HEAD_DIM>(parameters, item.partial + split);
        const float before = maximum;
        maximum = fmaxf(before, partial.maximum(slot));
        const float shrink = exp2_approx(before - maximum);
        const float weight = exp2_approx(partial.maximum(slot) - maximum);
        sum = sum * shrink + partial.sum(slot) * weight;
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) {
            out[i] = out[i] * shrink + partial.out(slot)[lane + WARP * i] * weight;
        }
    }

    // Of a warp: HEAD_DIM numbers, their maximum and sum.
    const auto of_warp = [&](int i) {
        return reinterpret_cast<float*>(shared) + i * (HEAD_DIM + 2);
    };
#pragma unroll
    for (int i = 0; i < COLUMNS; ++i) of_warp(own)[lane + WARP * i] = out[i];
    if (lane == 0) {
        of_warp(own)[HEAD_DIM] = maximum;
        of_warp(own)[HEAD_DIM + 1] = sum;
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
    slots.out(slot)[column] = from_float<T>(merged * (1.0f / merged_sum));
}

}  // namespace colm
