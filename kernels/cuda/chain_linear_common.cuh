// What the wide and the thin tiles of a ChainLinear share: their sizes, where a chain finds its
// inputs, and what is made of a sum before it becomes an output.
#pragma once

#include "chain_linear.h"
#include "launch.cuh"

namespace colm {

constexpr int LINEAR_WARPS = 4;
constexpr int LINEAR_THREADS = LINEAR_WARPS * WARP;

// A wide tile is 128 rows of a chain times 128 columns: outputs, or in a gated layer half W's and
// half U's.
constexpr int WIDE_ROWS = 128;
constexpr int WIDE_COLUMNS = 128;
template <bool GATED>
constexpr int WIDE_OUTPUTS = GATED ? WIDE_COLUMNS / 2 : WIDE_COLUMNS;

// A thin tile is all rows of a chain times 16 outputs, of both W and U if there is a U.
constexpr int THIN_OUTPUTS = 16;

// Which row of `lower`, a chain up to `chain`, row `row` of `chain` is.
__device__ __forceinline__ int place_of(const ColmLinearInput& input, int chain, int lower,
                                        int row) {
    if (input.places == nullptr || lower == chain) return row;
    return input.places[static_cast<size_t>(lower) * input.rows + row];
}

// in_<=chain: how many inputs every output of `chain` has.
__host__ __device__ inline int inputs_of(const ColmChainLinear& linear, int chain) {
    int inputs = 0;
    for (int lower = 0; lower <= chain; ++lower) inputs += linear.inputs[lower].width;
    return inputs;
}

__device__ __forceinline__ float silu(float x) {
    constexpr float LOG2_E = 1.4426950408889634f;
    return x / (1.0f + exp2_approx(-x * LOG2_E));
}

// Calls `launcher(T(), gated)` with the compile-time forms of the dtype and of whether there is a U.
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
