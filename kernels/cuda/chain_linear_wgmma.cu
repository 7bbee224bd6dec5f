// chain_linear with wgmma, the tensor core instruction of Hopper. `colm_chain_linear` does not use
// it until it has been checked and timed on such a GPU: see ../RESULTS.md.
#include "chain_linear_tiles.cuh"
#include "wgmma.cuh"

namespace colm {
namespace {

#ifdef COLM_HAS_WGMMA

// The thread block is one warpgroup, with two accumulator matrices of 64 rows and 128 columns.
template <class T>
struct WgmmaSums {
    using Stage = StageLayout<64>;
    static constexpr int STAGES = 3;
    static constexpr int HEIGHT = 2;
    static constexpr int WIDTH = 16;

    float sums[HEIGHT][WIDTH][4] = {};

    __device__ static int row_of(int i) { return i * 64 + threadIdx.x / WARP * 16; }
    __device__ static int first_column() { return 0; }

    __device__ static void arrive() { fence_for_wgmma(); }
    __device__ void finish() { wgmma_wait(); }

    __device__ void multiply(const unsigned char* stage) {
        const uint64_t weights = wgmma_descriptor(address(stage + Stage::X_BYTES));
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < HEIGHT; ++i) {
            const uint64_t x = wgmma_descriptor(address(stage + i * 64 * Stage::DEPTH * 2));
#pragma unroll
            for (int step = 0; step < Stage::DEPTH / 16; ++step) {
                const uint64_t advance = step * WGMMA_NEXT_K16;
                wgmma_m64n128k16<T>(sums[i], x + advance, weights + advance);
            }
        }
        wgmma_commit();
    }

  private:
    __device__ static unsigned address(const unsigned char* shared) {
#ifdef __CUDACC__
        return shared_address(shared);
#else
        return static_cast<unsigned>(shared - twin::shared_memory());
#endif
    }
};

#endif

constexpr int SHARED_BYTES = 3 * StageLayout<64>::BYTES + WGMMA_ALIGNMENT;

template <class T, bool GATED>
__global__ void __launch_bounds__(LINEAR_THREADS, 2)
    chain_linear_wgmma(const __grid_constant__ TilePlan plan) {
#ifdef COLM_HAS_WGMMA
    COLM_SHARED(shared);
    static_assert(MIXED_SHARED_BYTES<T, GATED, WgmmaSums<T>> + WGMMA_ALIGNMENT == SHARED_BYTES);
#ifdef __CUDACC__
    const unsigned beyond = shared_address(shared) % WGMMA_ALIGNMENT;
    unsigned char* aligned = beyond == 0 ? shared : shared + WGMMA_ALIGNMENT - beyond;
#else
    unsigned char* aligned = shared;
#endif
    compute_tile<T, GATED, WgmmaSums<T>>(plan, aligned);
#endif
}

// Whether the current device has the instruction.
bool has_wgmma() {
#ifdef __CUDACC__
    int device = 0, major = 0, minor = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    return major == 9 && minor == 0;
#else
    return true;
#endif
}

template <class T, bool GATED>
int launch_tiles(const ColmChainLinear& linear, void* stream) {
    const TilePlan plan = plan_tiles<GATED>(linear);
    const int tiles = plan.tiles[linear.products];
    if (tiles == 0) return COLM_OK;
    return launch(chain_linear_wgmma<T, GATED>, dim3(tiles), dim3(LINEAR_THREADS), SHARED_BYTES,
                  static_cast<cudaStream_t>(stream), plan);
}

}  // namespace
}  // namespace colm

extern "C" int colm_chain_linear_wgmma(const ColmChainLinear* linear, void* stream) {
    const int status = colm::check(*linear);
    if (status != COLM_OK) return status;
    if (linear->products == 0) return COLM_OK;
    // mma.sync works on every device.
    if (!colm::has_wgmma()) return colm_chain_linear(linear, stream);
    if (linear->inputs[0].rows <= COLM_MAX_SKINNY_ROWS)
        return colm_chain_linear_decode(linear, stream);
    return colm::for_dtype_and_gating(*linear, [&](auto number, auto gated) {
        return colm::launch_tiles<decltype(number), gated>(*linear, stream);
    });
}
