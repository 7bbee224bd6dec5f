// A skinny tile: up to 32 rows of a chain by 16 outputs (of W, and of U), for decoding, where the
// time is that of reading the weights.
//
// Every weight is read once, by 16-byte loads directly into mma operands. The mma multiplies [16,
// 16] by [16, 8]: the weights are the left matrix, and the rows of x are the columns of the right
// one, so 8 rows cost as much as one. The order of the inputs in a sum is free as long as both
// operands use the same. A lane therefore passes the 8 inputs it has loaded as the columns that the
// instruction expects from it, whatever their indices.
//
// The warps of the thread block divide the inputs of the 16 outputs, 128 inputs in turn, and their
// sums are added warp by warp. That order depends only on the widths of the chains, so the bits of
// a row do not depend on the other rows.
#pragma once

#include "chain_linear_common.cuh"
#include "vector.cuh"

namespace colm {

// A warp reads four times 32 inputs of a row of the weights at once, 8 per lane.
constexpr int SKINNY_LOADS = 4;
constexpr int SKINNY_SPAN = SKINNY_LOADS * 32;

// ROW_MATRICES counts matrices of 8 rows of x.
template <int ROW_MATRICES, bool GATED>
constexpr int SKINNY_SHARED_BYTES = LINEAR_WARPS * (GATED ? 2 : 1) * ROW_MATRICES * 8 *
                                    SKINNY_OUTPUTS * static_cast<int>(sizeof(float));

// 8 numbers, or zeros if they do not exist.
template <class T>
__device__ __forceinline__ uint4 load_if(bool exists, const T* from) {
    return exists ? load_vector(from) : make_uint4(0, 0, 0, 0);
}

// sums += w x, for 32 inputs. `low` has the weights of outputs 0..7, `high` those of 8..15.
template <class T>
__device__ __forceinline__ void multiply_skinny(float (&sums)[4], const uint4& low,
                                                const uint4& high, const uint4& x) {
    mma_m16n8k16<T>(sums, {low.x, high.x, low.y, high.y}, {x.x, x.y});
    mma_m16n8k16<T>(sums, {low.z, high.z, low.w, high.w}, {x.z, x.w});
}

// The sums over one warp's inputs: ROW_MATRICES matrices [16 outputs, 8 rows] per weight matrix.
template <class T, int ROW_MATRICES, bool GATED>
__device__ void skinny_sums(const ColmChainLinear& linear, const ColmLinearProduct& product,
                            int first_output, float (&sums)[GATED ? 2 : 1][ROW_MATRICES][4]) {
    constexpr int WEIGHTS = GATED ? 2 : 1;
    const ColmLinearInput& own = linear.inputs[product.chain];
    const int inputs = inputs_of(linear, product.chain);
    const int warp = threadIdx.x / WARP;
    // This lane loads the 8 inputs from `part` on: of the weights for the outputs `group` and
    // `group` + 8, and of x for the rows `group`, `group` + 8 and so on.
    const int group = threadIdx.x % WARP / 4;
    const int part = threadIdx.x % 4 * 8;
    const int output = first_output + group;
    const bool low_exists = output < product.outputs;
    const bool high_exists = output + 8 < product.outputs;

    const void* const matrices[2] = {product.weight, product.up};
    const size_t below = static_cast<size_t>(8) * inputs;
    size_t column = static_cast<size_t>(output) * inputs + part;
    int turn = 0;
    for (int earlier = 0; earlier <= product.chain; ++earlier) {
        const ColmLinearInput& input = linear.inputs[earlier];
        const T* x[ROW_MATRICES];
#pragma unroll
        for (int rows = 0; rows < ROW_MATRICES; ++rows) {
            const int row = rows * 8 + group;
            const int earlier_row = row < own.rows ? row_in(own, product.chain, earlier, row) : 0;
            x[rows] = static_cast<const T*>(input.x) +
                      static_cast<size_t>(earlier_row) * input.width + part;
        }
        const int spans = (input.width + SKINNY_SPAN - 1) / SKINNY_SPAN;
        // The turns continue across chains.
        const int first = (warp + LINEAR_WARPS - turn % LINEAR_WARPS) % LINEAR_WARPS;
        for (int span = first; span < spans; span += LINEAR_WARPS) {
            const int depth = span * SKINNY_SPAN;
            uint4 low[SKINNY_LOADS][WEIGHTS], high[SKINNY_LOADS][WEIGHTS],
                eight[SKINNY_LOADS][ROW_MATRICES];
#pragma unroll
            for (int load = 0; load < SKINNY_LOADS; ++load) {
                const int at = depth + load * 32;
                const bool inside = at + part < input.width;
#pragma unroll
                for (int w = 0; w < WEIGHTS; ++w) {
                    const T* from = static_cast<const T*>(matrices[w]) + column + at;
                    low[load][w] = load_if(inside && low_exists, from);
                    high[load][w] = load_if(inside && high_exists, from + below);
                }
#pragma unroll
                for (int rows = 0; rows < ROW_MATRICES; ++rows) {
                    const bool exists = inside && rows * 8 + group < own.rows;
                    eight[load][rows] = load_if(exists, x[rows] + at);
                }
            }
            // All loads are issued before the first result is used: the compiler moves none past
            // this.
            __syncwarp();
#pragma unroll
            for (int load = 0; load < SKINNY_LOADS; ++load) {
#pragma unroll
                for (int rows = 0; rows < ROW_MATRICES; ++rows) {
#pragma unroll
                    for (int w = 0; w < WEIGHTS; ++w) {
                        multiply_skinny<T>(sums[w][rows], low[load][w], high[load][w],
                                           eight[load][rows]);
                    }
                }
            }
        }
        turn += spans;
        column += input.width;
    }
}

// What the epilogue adds to the sums of one output: this thread's row of every matrix of rows.
template <class T, int ROW_MATRICES>
struct SkinnyAddends {
    float bias = 0.0f, up_bias = 0.0f;
    T residual[ROW_MATRICES] = {};

    // The rows that exist; `row` is that of the first matrix.
    __device__ SkinnyAddends(const ColmLinearProduct& product, int row, int rows, int output) {
        if (output >= product.outputs) return;
        bias = bias_at<T>(product.bias, output);
        up_bias = bias_at<T>(product.up_bias, output);
        if (product.residual == nullptr) return;
#pragma unroll
        for (int matrix = 0; matrix < ROW_MATRICES; ++matrix) {
            const size_t at = static_cast<size_t>(row + matrix * 8) * product.outputs + output;
            if (row + matrix * 8 < rows) {
                residual[matrix] = static_cast<const T*>(product.residual)[at];
            }
        }
    }
};

// Computes the tile of `product` at `first_output`. ROW_MATRICES * 8 is at least the chain's rows.
template <class T, int ROW_MATRICES, bool GATED>
__device__ void skinny_tile(const ColmChainLinear& linear, const ColmLinearProduct& product,
                            int first_output, unsigned char* shared) {
    constexpr int WEIGHTS = GATED ? 2 : 1;
    constexpr int MATRIX = 8 * SKINNY_OUTPUTS;
    static_assert(MATRIX == LINEAR_THREADS, "a thread adds up one output of one row of a matrix");
    float sums[WEIGHTS][ROW_MATRICES][4] = {};
    skinny_sums<T, ROW_MATRICES, GATED>(linear, product, first_output, sums);
    // Loaded before the barrier, so that they arrive while the threads wait there.
    const int output = first_output + threadIdx.x % SKINNY_OUTPUTS;
    const int first_row = threadIdx.x / SKINNY_OUTPUTS;
    const int row_count = linear.inputs[product.chain].rows;
    const SkinnyAddends<T, ROW_MATRICES> addends(product, first_row, row_count, output);

    // [warp][weight matrix][matrix of rows][row][output]
    float* partial = reinterpret_cast<float*>(shared);
    const int warp = threadIdx.x / WARP;
    const int group = threadIdx.x % WARP / 4;
    const int pair = threadIdx.x % 4 * 2;
#pragma unroll
    for (int w = 0; w < WEIGHTS; ++w) {
#pragma unroll
        for (int rows = 0; rows < ROW_MATRICES; ++rows) {
            float* matrix = partial + ((warp * WEIGHTS + w) * ROW_MATRICES + rows) * MATRIX;
#pragma unroll
            for (int number = 0; number < 4; ++number) {
                const int row = pair + number % 2;
                matrix[row * SKINNY_OUTPUTS + group + number / 2 * 8] = sums[w][rows][number];
            }
        }
    }
    __syncthreads();

    if (output >= product.outputs) return;
    const auto sum_of = [&](int w, int rows) {
        float sum = 0.0f;
        for (int from = 0; from < LINEAR_WARPS; ++from) {
            sum += partial[((from * WEIGHTS + w) * ROW_MATRICES + rows) * MATRIX + threadIdx.x];
        }
        return sum;
    };
#pragma unroll
    for (int rows = 0; rows < ROW_MATRICES; ++rows) {
        const int row = rows * 8 + first_row;
        if (row >= row_count) return;
        float value = sum_of(0, rows) + addends.bias;
        if constexpr (GATED) value = silu(value) * (sum_of(1, rows) + addends.up_bias);
        if (product.residual != nullptr) value += to_float(addends.residual[rows]);
        const size_t at = static_cast<size_t>(row) * product.outputs + output;
        static_cast<T*>(product.y)[at] = from_float<T>(value);
    }
}

}  // namespace colm
