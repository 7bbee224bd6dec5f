// One launch for chains of any number of rows: wide tiles, and beside them thin ones for chains of
// few rows, as the upper ones in Air's prefill.
#pragma once

#include "chain_linear_plan.cuh"
#include "chain_linear_thin.cuh"
#include "chain_linear_wide.cuh"

namespace colm {

constexpr int MIXED_ROW_MATRICES = COLM_MAX_THIN_ROWS / 8;

template <class T, bool GATED, class Sums>
constexpr int MIXED_SHARED_BYTES =
    std::max(Sums::STAGES * Sums::Stage::BYTES, THIN_SHARED_BYTES<MIXED_ROW_MATRICES, GATED>);

// Tiles of one row of tiles read the same x, of one column the same weights. So tiles go down 8
// rows before they go one column to the right: those that run at the same time find both in the
// cache.
struct Place {
    int row, column;
};
__device__ __forceinline__ Place place_of_tile(int tile, int tile_rows, int tile_columns) {
    constexpr int BAND = 8;
    const int band = tile / (BAND * tile_columns);
    const int within = tile % (BAND * tile_columns);
    const int height = min(BAND, tile_rows - band * BAND);
    return {band * BAND + within % height, within / height};
}

// What a block does.
template <class T, bool GATED, class Sums>
__device__ __forceinline__ void compute_tile(const TilePlan& plan, unsigned char* shared) {
    const Tile tile = tile_of_block(plan);
    const int rows = plan.linear.inputs[tile.product.chain].rows;
    if (rows <= COLM_MAX_THIN_ROWS) {
        thin_tile<T, MIXED_ROW_MATRICES, GATED>(plan.linear, tile.product,
                                                tile.index * THIN_OUTPUTS, shared);
        return;
    }
    const Place place = place_of_tile(tile.index, ceil_div(rows, WIDE_ROWS),
                                      ceil_div(tile.product.outputs, WIDE_OUTPUTS<GATED>));
    wide_tile<T, GATED, Sums>(plan.linear, tile.product, place.row * WIDE_ROWS,
                              place.column * WIDE_OUTPUTS<GATED>, shared);
}

}  // namespace colm
