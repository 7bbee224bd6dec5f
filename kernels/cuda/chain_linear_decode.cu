// The linear layers in decoding: every chain has few rows, and the time is bounded by reading the
// weights once. It is a separate kernel because wide tiles would take registers and shared memory,
// and fewer loads would be in flight.
#include "chain_linear_plan.cuh"
#include "chain_linear_skinny.cuh"

namespace colm {
namespace {

template <class T, int ROW_MATRICES, bool GATED>
__global__ void __launch_bounds__(LINEAR_THREADS)
    chain_linear_decode(const __grid_constant__ TilePlan plan) {
    COLM_SHARED(shared);
    const Tile tile = tile_of_block(plan);
    skinny_tile<T, ROW_MATRICES, GATED>(plan.linear, tile.product, tile.index * SKINNY_OUTPUTS,
                                        shared);
}

template <class T, int ROW_MATRICES, bool GATED>
int launch_tiles(const ColmChainLinear& linear, void* stream) {
    const TilePlan plan = plan_tiles<GATED>(linear);
    const int tiles = plan.tiles[linear.products];
    if (tiles == 0) return COLM_OK;
    return launch(chain_linear_decode<T, ROW_MATRICES, GATED>, dim3(tiles), dim3(LINEAR_THREADS),
                  SKINNY_SHARED_BYTES<ROW_MATRICES, GATED>, static_cast<cudaStream_t>(stream),
                  plan);
}

}  // namespace
}  // namespace colm

extern "C" int colm_chain_linear_decode(const ColmChainLinear* linear, void* stream) {
    const int status = colm::check(*linear);
    if (status != COLM_OK) return status;
    if (linear->products == 0) return COLM_OK;
    if (linear->inputs[0].rows > COLM_MAX_SKINNY_ROWS) return COLM_BAD_SHAPE;
    return colm::for_dtype_and_gating(*linear, [&](auto number, auto gated) {
        using T = decltype(number);
        return linear->inputs[0].rows <= 8
                   ? colm::launch_tiles<T, 1, gated>(*linear, stream)
                   : colm::launch_tiles<T, COLM_MAX_SKINNY_ROWS / 8, gated>(*linear, stream);
    });
}
