// The division of a launch's products into the thread blocks of one grid, and the checks of the
// arguments.
#pragma once

#include <algorithm>

#include "chain_linear_common.cuh"

namespace colm {

// The parameters of the kernels: the products by decreasing work, and the running total of tiles,
// from 0 before the first product to that after the last.
struct TilePlan {
    ColmChainLinear linear;
    int32_t tiles[COLM_MAX_PRODUCTS + 1];
};
static_assert(sizeof(TilePlan) <= 4096, "before CUDA 12.1 kernel parameters are limited to 4 KiB");

// The product of a thread block, and the index of its tile in the product.
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

inline bool is_skinny(const ColmChainLinear& linear, const ColmLinearProduct& product) {
    return linear.inputs[product.chain].rows <= COLM_MAX_SKINNY_ROWS;
}

template <bool GATED>
int tiles_of(const ColmChainLinear& linear, const ColmLinearProduct& product) {
    const int rows = linear.inputs[product.chain].rows;
    if (rows == 0) return 0;
    if (is_skinny(linear, product)) return ceil_div(product.outputs, SKINNY_OUTPUTS);
    return ceil_div(rows, WIDE_ROWS) * ceil_div(product.outputs, WIDE_OUTPUTS<GATED>);
}

// Thread blocks start in order. Skinny tiles are first: they wait for memory while the wide tiles
// after them use the tensor cores. Within each kind the last chains are first. They have the
// most inputs, so the last tiles to finish are short.
template <bool GATED>
TilePlan plan_tiles(const ColmChainLinear& linear) {
    TilePlan plan = {linear, {}};
    ColmLinearProduct* products = plan.linear.product;
    std::stable_sort(products, products + linear.products,
                     [&](const ColmLinearProduct& a, const ColmLinearProduct& b) {
                         if (is_skinny(linear, a) != is_skinny(linear, b))
                             return is_skinny(linear, a);
                         return a.chain > b.chain;
                     });
    for (int index = 0; index < linear.products; ++index) {
        plan.tiles[index + 1] = plan.tiles[index] + tiles_of<GATED>(linear, products[index]);
    }
    return plan;
}

inline int check_product(const ColmChainLinear& linear, const ColmLinearProduct& product) {
    if (product.chain < 0 || product.chain >= linear.chains) return COLM_BAD_SHAPE;
    if (product.outputs <= 0 || product.outputs % COLM_VECTOR != 0) return COLM_BAD_SHAPE;
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
    if (linear.chains < 1 || linear.chains > COLM_MAX_CHAINS) return COLM_BAD_CHAIN_COUNT;
    if (linear.products < 0 || linear.products > COLM_MAX_PRODUCTS) return COLM_BAD_SHAPE;
    for (int chain = 0; chain < linear.chains; ++chain) {
        const ColmLinearInput& input = linear.inputs[chain];
        if (input.width <= 0 || input.width % COLM_VECTOR != 0 || input.rows < 0)
            return COLM_BAD_SHAPE;
        // Rows are nested: no more than in the chain before, and the same as in all earlier chains
        // if there is no row map.
        if (chain > 0 && input.rows > linear.inputs[chain - 1].rows) return COLM_BAD_SHAPE;
        if (input.row_map == nullptr && input.rows != linear.inputs[0].rows && input.rows > 0) {
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
