// All chains of one linear layer, or of several that read the same x, in one launch: a grouped GEMM
// that computes only the nonzero blocks of the block-lower-triangular weights.
//
// Every product (one chain of one layer) is divided into tiles, and the tiles of all products are
// the thread blocks of one grid, so all chains run concurrently.
#include "chain_linear_mma.cuh"
#include "chain_linear_tiles.cuh"

namespace colm {
namespace {

template <class T, bool GATED>
__global__ void __launch_bounds__(LINEAR_THREADS, 2)
    chain_linear(const __grid_constant__ TilePlan plan) {
    COLM_SHARED(shared);
    compute_tile<T, GATED, MmaSums<T>>(plan, shared);
}

template <class T, bool GATED>
int launch_tiles(const ColmChainLinear& linear, void* stream) {
    const TilePlan plan = plan_tiles<GATED>(linear);
    const int tiles = plan.tiles[linear.products];
    if (tiles == 0) return COLM_OK;
    return launch(chain_linear<T, GATED>, dim3(tiles), dim3(LINEAR_THREADS),
                  MIXED_SHARED_BYTES<T, GATED, MmaSums<T>>, static_cast<cudaStream_t>(stream),
                  plan);
}

}  // namespace
}  // namespace colm

extern "C" int colm_chain_linear(const ColmChainLinear* linear, void* stream) {
    const int status = colm::check(*linear);
    if (status != COLM_OK) return status;
    if (linear->products == 0) return COLM_OK;
    if (linear->inputs[0].rows <= COLM_MAX_SKINNY_ROWS)
        return colm_chain_linear_decode(linear, stream);
    return colm::for_dtype_and_gating(*linear, [&](auto number, auto gated) {
        return colm::launch_tiles<decltype(number), gated>(*linear, stream);
    });
}

extern "C" int32_t colm_sizeof_chain_linear() { return sizeof(ColmChainLinear); }
