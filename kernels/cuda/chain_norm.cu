// RMS norm of all chains of a step in one launch.
#include "chain_linear.h"
#include "launch.cuh"
#include "vector.cuh"

namespace colm {
namespace {

constexpr int NORM_WARPS = 4;
constexpr int NORM_THREADS = NORM_WARPS * WARP;
constexpr int NORM_SHARED_BYTES = NORM_WARPS * sizeof(float);

// A narrow row is computed by a warp, a wide one by the thread block. The choice, and so the order
// of the sum and the bits of a row, depends only on the width.
__host__ __device__ constexpr int threads_per_row(int width) {
    return width <= WARP * VECTOR * 4 ? WARP : NORM_THREADS;
}
__host__ __device__ constexpr int rows_per_block(int width) {
    return NORM_THREADS / threads_per_row(width);
}

// The parameters of the kernel, with the running total of thread blocks: from 0 before the first
// chain to that after the last.
struct NormPlan {
    ColmChainNorm norm;
    int32_t blocks[COLM_MAX_CHAINS + 1];
};
static_assert(sizeof(NormPlan) <= 4096, "before CUDA 12.1 kernel parameters are limited to 4 KiB");

// The sum over the threads of a row, returned to all of them.
__device__ float sum_of_row(float value, int threads, float* shared) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    }
    if (threads == WARP) return value;
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = value;
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < NORM_WARPS; ++warp) sum += shared[warp];
    return sum;
}

template <class T>
__global__ void __launch_bounds__(NORM_THREADS)
    chain_rms_norm(const __grid_constant__ NormPlan plan) {
    COLM_SHARED(shared);
    int index = 0;
    while (static_cast<int>(blockIdx.x) >= plan.blocks[index + 1]) ++index;
    const ColmNormChain& chain = plan.norm.chain[index];
    const int width = chain.width;
    const int threads = threads_per_row(width);
    const int block = static_cast<int>(blockIdx.x) - plan.blocks[index];
    const int row = block * rows_per_block(width) + static_cast<int>(threadIdx.x) / threads;
    // Warps past the last row load nothing, but take part in the barriers.
    const int end = row < chain.rows ? width : 0;
    const int first = static_cast<int>(threadIdx.x) % threads * VECTOR;
    const size_t start = static_cast<size_t>(row) * width;

    const T* const x = static_cast<const T*>(chain.x) + start;
    float squares = 0.0f;
#pragma unroll 4
    for (int column = first; column < end; column += threads * VECTOR) {
        float numbers[VECTOR];
        widen<T>(load_vector(x + column), numbers);
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) squares += numbers[i] * numbers[i];
    }
    const float mean = sum_of_row(squares, threads, reinterpret_cast<float*>(shared)) / width;
    const float scale = rsqrtf(mean + plan.norm.eps);

#pragma unroll 4
    for (int column = first; column < end; column += threads * VECTOR) {
        float numbers[VECTOR], weights[VECTOR];
        widen<T>(load_vector(x + column), numbers);
        widen<T>(load_vector(static_cast<const T*>(chain.weight) + column), weights);
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) numbers[i] *= scale * weights[i];
        store_vector(static_cast<T*>(chain.y) + start + column, narrow<T>(numbers));
    }
}

int check(const ColmChainNorm& norm) {
    if (norm.dtype != COLM_BF16 && norm.dtype != COLM_F16) return COLM_BAD_DTYPE;
    if (norm.chains < 0 || norm.chains > COLM_MAX_CHAINS) return COLM_BAD_CHAIN_COUNT;
    for (int index = 0; index < norm.chains; ++index) {
        const ColmNormChain& chain = norm.chain[index];
        if (chain.width <= 0 || chain.width % VECTOR != 0 || chain.rows < 0) return COLM_BAD_SHAPE;
        if (!aligned16(chain.x, chain.weight, chain.y)) return COLM_BAD_ALIGNMENT;
    }
    return COLM_OK;
}

template <class T>
int launch_norm(const ColmChainNorm& norm, void* stream) {
    NormPlan plan = {norm, {}};
    for (int index = 0; index < norm.chains; ++index) {
        const ColmNormChain& chain = norm.chain[index];
        const int rows = rows_per_block(chain.width);
        plan.blocks[index + 1] = plan.blocks[index] + (chain.rows + rows - 1) / rows;
    }
    const int blocks = plan.blocks[norm.chains];
    if (blocks == 0) return COLM_OK;
    return launch(chain_rms_norm<T>, dim3(blocks), dim3(NORM_THREADS), NORM_SHARED_BYTES,
                  static_cast<cudaStream_t>(stream), plan);
}

}  // namespace
}  // namespace colm

extern "C" int colm_chain_rms_norm(const ColmChainNorm* norm, void* stream) {
    const int status = colm::check(*norm);
    if (status != COLM_OK) return status;
    return norm->dtype == COLM_BF16 ? colm::launch_norm<__nv_bfloat16>(*norm, stream)
                                    : colm::launch_norm<__half>(*norm, stream);
}

extern "C" int32_t colm_sizeof_chain_norm() { return sizeof(ColmChainNorm); }
