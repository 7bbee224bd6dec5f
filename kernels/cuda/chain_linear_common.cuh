// What the wide and the skinny tiles of a ChainLinear share: tile sizes, the inputs of a chain, and
// the epilogue.
#pragma once

#include "chain_linear.h"
#include "launch.cuh"

namespace colm {

constexpr int LINEAR_WARPS = 4;
constexpr int LINEAR_THREADS = LINEAR_WARPS * WARP;

// A wide tile is 128 rows of a chain by 128 columns. The columns are outputs; in a gated layer one
// half is of W and the other of U.
constexpr int WIDE_ROWS = 128;
constexpr int WIDE_COLUMNS = 128;
template <bool GATED>
constexpr int WIDE_OUTPUTS = GATED ? WIDE_COLUMNS / 2 : WIDE_COLUMNS;

// A skinny tile is all rows of a chain by 16 outputs, of both W and U in a gated layer.
constexpr int SKINNY_OUTPUTS = 16;

// The index of row `row` of `chain` among the rows of `earlier`, an earlier chain or itself.
__device__ __forceinline__ int row_in(const ColmLinearInput& input, int chain, int earlier,
                                      int row) {
    if (input.row_map == nullptr || earlier == chain) return row;
    return input.row_map[static_cast<size_t>(earlier) * input.rows + row];
}

// in_<=chain: the number of inputs of `chain`.
__host__ __device__ inline int inputs_of(const ColmChainLinear& linear, int chain) {
    int inputs = 0;
    for (int earlier = 0; earlier <= chain; ++earlier) inputs += linear.inputs[earlier].width;
    return inputs;
}

__device__ __forceinline__ float silu(float x) {
    constexpr float LOG2_E = 1.4426950408889634f;
    return x / (1.0f + exp2_approx(-x * LOG2_E));
}

// Calls `launcher(T(), gated)` with the dtype and whether there is a U as compile-time values.
template <class Launcher>
int for_dtype_and_gating(const ColmChainLinear& linear, Launcher launcher) {
    const auto with_dtype = [&](auto number) {
        return linear.product[0].up == nullptr ? launcher(number, std::false_type())
                                               : launcher(number, std::true_type());
    };
    return linear.dtype == COLM_BF16 ? with_dtype(__nv_bfloat16()) : with_dtype(__half());
}

// bias[output], or 0 without a bias.
template <class T>
__device__ __forceinline__ float bias_at(const void* bias, int output) {
    return bias == nullptr ? 0.0f : to_float(static_cast<const T*>(bias)[output]);
}

}  // namespace colm
