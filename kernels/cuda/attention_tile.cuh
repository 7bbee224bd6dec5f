// The attention of one warp: rows of queries against a tile of keys and values in shared memory,
// with an online softmax.
//
// Only this file uses mma.sync. The kernels around it load tiles and call `attend` and `finish`, so
// an implementation with wgmma can replace it behind the same two functions.
#pragma once

#include "instructions.cuh"
#include "vector.cuh"

namespace colm {

// A tile of rows of HEAD_DIM numbers in shared memory. The 16-byte vectors of a row are permuted
// depending on the row index, so that the eight rows that ldmatrix reads at one column are in
// different banks. 128 bytes, one access to each bank, are one row or several.
template <class T, int HEAD_DIM>
struct SharedRows {
    static constexpr int VECTORS = HEAD_DIM / VECTOR;
    // Rows at this distance have the same permutation.
    static constexpr int PERIOD = 8;
    static constexpr int PERMUTED = VECTORS < PERIOD ? VECTORS : PERIOD;

    T* start;

    __device__ __forceinline__ T* vector(int row, int vector) const {
        const int permuted = vector ^ row % PERIOD / (PERIOD / PERMUTED);
        return start + row * HEAD_DIM + permuted * VECTOR;
    }
};

// The maximum and the sum over the four lanes that hold a row of an mma result.
__device__ __forceinline__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

__device__ __forceinline__ float row_sum(float x) {
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

// The maximum of a row before its first key: below any score, but finite, so that the difference of
// two maxima is a number.
constexpr float NO_MAXIMUM = -1e38f;

// Attention of 16 ROW_TILES queries over KEYS keys at a time. In a 16 x 8 result of mma, a lane
// holds two columns of the rows lane / 4 (half 0) and lane / 4 + 8 (half 1).
template <class T, int HEAD_DIM, int ROW_TILES, int KEYS>
struct WarpAttention {
    static constexpr int KEY_TILES = KEYS / 8;
    static constexpr int DIM_TILES = HEAD_DIM / 8;
    using Rows = SharedRows<T, HEAD_DIM>;

    // Per row of this lane: the maximum so far, in base 2, and this lane's part of the sum of
    // weights.
    float maximum[ROW_TILES][2];
    float sum[ROW_TILES][2];
    float out[ROW_TILES][DIM_TILES][4];

    __device__ __forceinline__ WarpAttention() {
#pragma unroll
        for (int r = 0; r < ROW_TILES; ++r) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                maximum[r][half] = NO_MAXIMUM;
                sum[r][half] = 0.0f;
            }
#pragma unroll
            for (int d = 0; d < DIM_TILES; ++d) {
#pragma unroll
                for (int i = 0; i < 4; ++i) out[r][d][i] = 0.0f;
            }
        }
    }

    // Attends to the keys from `first_key` on, which are in `keys` and `values` from row `key_row`
    // on. The queries are in `queries` from row `query_row` on. `scale` is the softmax scale times
    // log2(e). `positions` has the last position that each row sees, or is null if all rows see all
    // keys.
    __device__ __forceinline__ void attend(Rows queries, int query_row, Rows keys, Rows values,
                                           int key_row, int first_key, const int* positions,
                                           float scale) {
        float scores[ROW_TILES][KEY_TILES][4];
        multiply_keys(queries, query_row, keys, key_row, scores);
        if (positions) mask(positions + query_row, first_key, scores);
        uint32_t weights[ROW_TILES][KEYS / 16][4];
        update_maxima(scale, scores);
        compute_weights(scale, scores, weights);
        multiply_values(values, key_row, weights);
    }

    // Completes the sums; after this `out / sum` is the result.
    __device__ __forceinline__ void finish() {
#pragma unroll
        for (int r = 0; r < ROW_TILES; ++r) {
#pragma unroll
            for (int half = 0; half < 2; ++half) sum[r][half] = row_sum(sum[r][half]);
        }
    }

  private:
    // scores = queries keys^T
    __device__ __forceinline__ void multiply_keys(Rows queries, int query_row, Rows keys,
                                                  int key_row,
                                                  float (&scores)[ROW_TILES][KEY_TILES][4]) {
        const int lane = threadIdx.x % WARP;
        // Each lane gives ldmatrix the address of row lane % 8 of matrix lane / 8.
        const int low = lane / 8 % 2, high = lane / 16, row = lane % 8;
#pragma unroll
        for (int r = 0; r < ROW_TILES; ++r) {
#pragma unroll
            for (int key_tile = 0; key_tile < KEY_TILES; ++key_tile) {
#pragma unroll
                for (int i = 0; i < 4; ++i) scores[r][key_tile][i] = 0.0f;
            }
        }
#pragma unroll
        for (int step = 0; step < HEAD_DIM / 16; ++step) {
            uint32_t q[ROW_TILES][4];
#pragma unroll
            for (int r = 0; r < ROW_TILES; ++r) {
                ldmatrix_x4(q[r],
                            queries.vector(query_row + 16 * r + 8 * low + row, 2 * step + high));
            }
#pragma unroll
            for (int key_tile = 0; key_tile < KEY_TILES; key_tile += 2) {
                uint32_t both[4];
                const int key = key_row + 8 * key_tile + 8 * high + row;
                ldmatrix_x4(both, keys.vector(key, 2 * step + low));
#pragma unroll
                for (int r = 0; r < ROW_TILES; ++r) {
                    mma_m16n8k16<T>(scores[r][key_tile], q[r], {both[0], both[1]});
                    mma_m16n8k16<T>(scores[r][key_tile + 1], q[r], {both[2], both[3]});
                }
            }
        }
    }

    __device__ __forceinline__ void mask(const int* positions, int first_key,
                                         float (&scores)[ROW_TILES][KEY_TILES][4]) {
        const int lane = threadIdx.x % WARP, first = first_key + 2 * (lane % 4);
#pragma unroll
        for (int r = 0; r < ROW_TILES; ++r) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int visible = positions[16 * r + 8 * half + lane / 4] - first;
#pragma unroll
                for (int key_tile = 0; key_tile < KEY_TILES; ++key_tile) {
                    if (8 * key_tile > visible) scores[r][key_tile][2 * half] = -INFINITY;
                    if (8 * key_tile + 1 > visible) scores[r][key_tile][2 * half + 1] = -INFINITY;
                }
            }
        }
    }

    // Includes the scores in the rows' maxima, and rescales the previous sums to them.
    __device__ __forceinline__ void update_maxima(float scale,
                                                  const float (&scores)[ROW_TILES][KEY_TILES][4]) {
        float rescale[ROW_TILES][2];
        bool raised = false;
#pragma unroll
        for (int r = 0; r < ROW_TILES; ++r) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float largest = scores[r][0][2 * half];
#pragma unroll
                for (int key_tile = 0; key_tile < KEY_TILES; ++key_tile) {
                    const float(&pair)[4] = scores[r][key_tile];
                    largest = fmaxf(largest, fmaxf(pair[2 * half], pair[2 * half + 1]));
                }
                const float before = maximum[r][half];
                maximum[r][half] = fmaxf(before, row_max(largest) * scale);
                rescale[r][half] = exp2_approx(before - maximum[r][half]);
                sum[r][half] *= rescale[r][half];
                raised |= maximum[r][half] > before;
            }
        }
        // Rare after the first tiles.
        if (!__any_sync(ALL_LANES, raised)) return;
#pragma unroll
        for (int r = 0; r < ROW_TILES; ++r) {
#pragma unroll
            for (int d = 0; d < DIM_TILES; ++d) {
#pragma unroll
                for (int i = 0; i < 4; ++i) out[r][d][i] *= rescale[r][i / 2];
            }
        }
    }

    // Computes the weights exp2(score - maximum), packed as the operand of multiply_values: a
    // lane's part of two adjacent mma results is its part of an mma operand.
    __device__ __forceinline__ void compute_weights(float scale,
                                                    const float (&scores)[ROW_TILES][KEY_TILES][4],
                                                    uint32_t (&weights)[ROW_TILES][KEYS / 16][4]) {
#pragma unroll
        for (int r = 0; r < ROW_TILES; ++r) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float base = maximum[r][half];
#pragma unroll
                for (int key_tile = 0; key_tile < KEY_TILES; ++key_tile) {
                    const float(&pair)[4] = scores[r][key_tile];
                    const float left = exp2_approx(pair[2 * half] * scale - base);
                    const float right = exp2_approx(pair[2 * half + 1] * scale - base);
                    sum[r][half] += left + right;
                    weights[r][key_tile / 2][key_tile % 2 * 2 + half] = pack2<T>(left, right);
                }
            }
        }
    }

    // out += weights values
    __device__ __forceinline__ void multiply_values(
        Rows values, int key_row, const uint32_t (&weights)[ROW_TILES][KEYS / 16][4]) {
        const int lane = threadIdx.x % WARP;
        const int low = lane / 8 % 2, high = lane / 16, row = lane % 8;
#pragma unroll
        for (int step = 0; step < KEYS / 16; ++step) {
#pragma unroll
            for (int d = 0; d < DIM_TILES; d += 2) {
                uint32_t both[4];
                ldmatrix_x4_trans(both,
                                  values.vector(key_row + 16 * step + 8 * low + row, d + high));
#pragma unroll
                for (int r = 0; r < ROW_TILES; ++r) {
                    mma_m16n8k16<T>(out[r][d], weights[r][step], {both[0], both[1]});
                    mma_m16n8k16<T>(out[r][d + 1], weights[r][step], {both[2], both[3]});
                }
            }
        }
    }
};

}  // namespace colm
