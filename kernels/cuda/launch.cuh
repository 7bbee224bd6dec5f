// How a launcher starts a kernel and what it returns.
#pragma once

#include <type_traits>

#include "instructions.cuh"

// What every `extern "C"` launcher returns: 0, one of the negative refusals below (nothing was
// launched), or the positive code of the CUDA runtime. `colm_status_text` says it in words.
enum ColmStatus : int {
    COLM_OK = 0,
    COLM_BAD_DTYPE = -1,
    COLM_BAD_HEAD_DIM = -2,
    COLM_BAD_BLOCK_SIZE = -3,
    COLM_BAD_HEADS = -4,
    COLM_BAD_SHAPE = -5,
    COLM_BAD_ALIGNMENT = -6,
};

// The dtypes of tensors as the launchers take them.
enum ColmDtype : int { COLM_BF16 = 0, COLM_F16 = 1 };

extern "C" const char* colm_status_text(int status);

namespace colm {

#ifdef __CUDACC__

// Starts `kernel` on `stream`. `shared_bytes` of dynamic shared memory may pass the default 48 KiB.
template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
           cudaStream_t stream, Arguments... arguments) {
    if (shared_bytes > 48 * 1024) {
        const cudaError_t error = cudaFuncSetAttribute(
            kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
        if (error != cudaSuccess) return error;
    }
    kernel<<<grid, block, shared_bytes, stream>>>(arguments...);
    return cudaGetLastError();
}

#else

template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t,
           Arguments... arguments) {
    return twin::run(grid, block, shared_bytes, [=] { kernel(arguments...); });
}

#endif

// Whether 16-byte accesses may start at every one of `pointers`.
template <class... Pointers>
bool aligned16(Pointers... pointers) {
    return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

// Calls `launcher(T(), HEAD_DIM)` with the compile-time forms of `dtype` and `head_dim`.
template <class Launcher>
int for_dtype_and_head_dim(int dtype, int head_dim, Launcher launcher) {
    const auto with_dtype = [&](auto number) {
        switch (head_dim) {
            case 32: return launcher(number, std::integral_constant<int, 32>());
            case 64: return launcher(number, std::integral_constant<int, 64>());
            case 128: return launcher(number, std::integral_constant<int, 128>());
            default: return static_cast<int>(COLM_BAD_HEAD_DIM);
        }
    };
    switch (dtype) {
        case COLM_BF16: return with_dtype(__nv_bfloat16());
        case COLM_F16: return with_dtype(__half());
        default: return COLM_BAD_DTYPE;
    }
}

}  // namespace colm
