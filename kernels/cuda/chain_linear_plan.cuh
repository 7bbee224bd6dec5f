// How the products of a launch are cut into the blocks of one grid, and which arguments are
// refused.
#pragma once

#include <algorithm>

#include "chain_linear_common.cuh"

namespace colm {

// What a kernel is given: the products by decreasing work and, before them all and after each one,
// how many tiles there are so far.
struct TilePlan {
    ColmChainLinear linear;
    int32_t tiles[COLM_MAX_PRODUCTS + 1];
};
static_assert(sizeof(TilePlan) <= 4096, "kernel parameters were limited to 4 KiB for long");

// A block's product, and which of its tiles the block computes.
struct Tile {
    const ColmLinearProduct& product;
    int index;
};
__device__ __forceinline__ Tile tile_of_block(const TilePlan& plan) {
    const int block = static_cast<int>(blockIdx.x);
    int index = 0;
    while (block >= plan.tiles[index + 1]) ++index;
    return {plan.linear.product[index], block - plan.tiles[index]};
}

__host__ __device__ constexpr int ceil_div(int count, int size) {
    return (count + size - 1) / size;
}

inline bool is_thin(const ColmChainLinear& linear, const ColmLinearProduct& product) {
    return linear.inputs[product.chain].rows <= COLM_MAX_THIN_ROWS;
}

template <bool GATED>
int tiles_of(const ColmChainLinear& linear, const ColmLinearProduct& product) {
    const int rows = linear.inputs[product.chain].rows;
    if (rows == 0) return 0;
    if (is_thin(linear, product)) return ceil_div(product.outputs, THIN_OUTPUTS);
    return ceil_div(rows, WIDE_ROWS) * ceil_div(product.outputs, WIDE_OUTPUTS<GATED>);
}

// Blocks start in order. Thin tiles come first: they wait for memory while the wide ones that
// follow keep the tensor cores busy. Of either kind those of the highest chain do, whose sums are
// longest, so that the last to finish are short.
template <bool GATED>
TilePlan plan_tiles(const ColmChainLinear& linear) {
    TilePlan plan = {linear, {}};
    ColmLinearProduct* products = plan.linear.product;
    std::stable_sort(products, products + linear.products,
                     [&](const ColmLinearProduct& a, const ColmLinearProduct& b) {
                         if (is_thin(linear, a) != is_thin(linear, b)) return is_thin(linear, a);
                         return a.chain > b.chain;
                     });
    for (int index = 0; index < linear.products; ++index) {
        plan.tiles[index + 1] = plan.tiles[index] + tiles_of<GATED>(linear, products[index]);
    }
    return plan;
}

inline int check_product(const ColmChainLinear& linear, const ColmLinearProduct& product) {
    if (product.chain < 0 || product.chain >= linear.chains) return COLM_BAD_SHAPE;
    if (product.outputs <= 0 || product.outputs % 8 != 0) return COLM_BAD_SHAPE;
    if (product.weight == nullptr || product.y == nullptr) return COLM_BAD_SHAPE;
    if ((product.up == nullptr) != (linear.product[0].up == nullptr)) return COLM_BAD_SHAPE;
    if (!aligned16(product.weight, product.up, product.bias, product.up_bias, product.residual,
                   product.y)) {
        return COLM_BAD_ALIGNMENT;
    }
    return COLM_OK;
}

inline int check(const ColmChainLinear& linear) {
    if (linear.dtype != COLM_BF16 && linear.dtype != COLM_F16) return COLM_BAD_DTYPE;
    if (linear.chains < 1 || linear.chains > COLM_MAX_CHAINS) return COLM_BAD_SHAPE;
    if (linear.products < 0 || linear.products > COLM_MAX_PRODUCTS) return COLM_BAD_SHAPE;
    for (int chain = 0; chain < linear.chains; ++chain) {
        const ColmLinearInput& input = linear.inputs[chain];
        if (input.width <= 0 || input.width % 8 != 0 || input.rows < 0) return COLM_BAD_SHAPE;
        // Nested rows: never more than below, and as many as everywhere below without places.
        if (chain > 0 && input.rows > linear.inputs[chain - 1].rows) return COLM_BAD_SHAPE;
        if (input.places == nullptr && input.rows != linear.inputs[0].rows && input.rows > 0) {
            return COLM_BAD_SHAPE;
        }
        if (!aligned16(input.x)) return COLM_BAD_ALIGNMENT;
    }
    for (int product = 0; product < linear.products; ++product) {
        const int status = check_product(linear, linear.product[product]);
        if (status != COLM_OK) return status;
    }
    return COLM_OK;
}

}  // namespace colm
