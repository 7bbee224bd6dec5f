// One launch for chains of any number of rows: wide tiles, and skinny tiles for chains of few rows,
// such as the later chains in the prefill of CoLM-Air.
#pragma once

#include "chain_linear_plan.cuh"
#include "chain_linear_skinny.cuh"
#include "chain_linear_wide.cuh"

namespace colm {

constexpr int MIXED_ROW_MATRICES = COLM_MAX_SKINNY_ROWS / 8;

template <class T, bool GATED, class Sums>
constexpr int MIXED_SHARED_BYTES =
    std::max(Sums::STAGES * Sums::Stage::BYTES, SKINNY_SHARED_BYTES<MIXED_ROW_MATRICES, GATED>);

// Tiles in one row read the same x, tiles in one column the same weights. Tiles are therefore
// ordered down 8 rows before one column to the right, so that concurrent tiles share both in the L2
// cache.
struct TileIndex {
    int row, column;
};
__device__ __forceinline__ TileIndex tile_index(int tile, int tile_rows, int tile_columns) {
    constexpr int BAND = 8;
    const int band = tile / (BAND * tile_columns);
    const int within = tile % (BAND * tile_columns);
    const int height = min(BAND, tile_rows - band * BAND);
    return {band * BAND + within % height, within / height};
}

// Computes the tile of this thread block.
template <class T, bool GATED, class Sums>
__device__ __forceinline__ void compute_tile(const TilePlan& plan, unsigned char* shared) {
    const Tile tile = tile_of_block(plan);
    const int rows = plan.linear.inputs[tile.product.chain].rows;
    if (rows <= COLM_MAX_SKINNY_ROWS) {
        skinny_tile<T, MIXED_ROW_MATRICES, GATED>(plan.linear, tile.product,
                                                  tile.index * SKINNY_OUTPUTS, shared);
        return;
    }
    const TileIndex at = tile_index(tile.index, ceil_div(rows, WIDE_ROWS),
                                    ceil_div(tile.product.outputs, WIDE_OUTPUTS<GATED>));
    wide_tile<T, GATED, Sums>(plan.linear, tile.product, at.row * WIDE_ROWS,
                              at.column * WIDE_OUTPUTS<GATED>, shared);
}

}  // namespace colm
