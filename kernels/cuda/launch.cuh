// Kernel launches and status codes.
#pragma once

#include <mutex>
#include <set>
#include <type_traits>
#include <utility>

#include "instructions.cuh"
#include "limits.h"

// The return value of every `extern "C"` launcher: 0, one of the negative codes below for an
// invalid argument (nothing was launched), or a positive error code of the CUDA runtime.
// `colm_status_text` describes it.
enum ColmStatus : int {
    COLM_OK = 0,
    COLM_BAD_DTYPE = -1,
    COLM_BAD_HEAD_DIM = -2,
    COLM_BAD_BLOCK_SIZE = -3,
    COLM_BAD_HEADS = -4,
    COLM_BAD_SHAPE = -5,
    COLM_BAD_ALIGNMENT = -6,
    COLM_BAD_CHAIN_COUNT = -7,
};

// The dtypes of tensors in the launchers.
enum ColmDtype : int { COLM_BF16 = 0, COLM_F16 = 1 };

extern "C" const char* colm_status_text(int status);

namespace colm {

#ifdef __CUDACC__

// Runs a setting of a device or of a kernel on it once per process.
class OncePerDevice {
  public:
    // Calls `set(device)` with the current device unless that has succeeded for this device and
    // `kernel`. Returns an error of the runtime, which is not left for `cudaGetLastError`.
    template <class Set>
    int run(const void* kernel, Set set) {
        int device = 0;
        cudaError_t error = cudaGetDevice(&device);
        if (error == cudaSuccess) {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (done_.count({kernel, device}) > 0) return COLM_OK;
            error = static_cast<cudaError_t>(set(device));
            if (error == cudaSuccess) done_.insert({kernel, device});
        }
        if (error != cudaSuccess) cudaGetLastError();
        return error;
    }

  private:
    std::mutex mutex_;
    std::set<std::pair<const void*, int>> done_;
};

// Lets `kernel` use `bytes` of dynamic shared memory, which may exceed the default limit of 48 KiB.
// A kernel is always launched with the same size.
inline int allow_shared_memory(const void* kernel, size_t bytes) {
    static OncePerDevice allowed;
    return allowed.run(kernel, [&](int) {
        return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(bytes));
    });
}

// Starts `kernel` on `stream`.
template <class... Parameters, class... Arguments>
int launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
           cudaStream_t stream, Arguments... arguments) {
    if (shared_bytes > 48 * 1024) {
        const auto* const function = reinterpret_cast<const void*>(kernel);
        if (const int status = allow_shared_memory(function, shared_bytes)) return status;
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

// Whether all of `pointers` are multiples of 16 bytes.
template <class... Pointers>
bool aligned16(Pointers... pointers) {
    return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

// Calls `launcher(number, HEAD_DIM)` with `head_dim`, one of HEAD_DIMS, as a compile-time value.
template <class T, class Launcher, int... HEAD_DIMS>
int for_head_dim(int head_dim, T number, Launcher launcher,
                 std::integer_sequence<int, HEAD_DIMS...>) {
    int status = COLM_BAD_HEAD_DIM;
    const auto launch_if = [&](auto candidate) {
        if (head_dim == candidate) status = launcher(number, candidate);
    };
    (launch_if(std::integral_constant<int, HEAD_DIMS>()), ...);
    return status;
}

// Calls `launcher(T(), HEAD_DIM)` with `dtype` and `head_dim` as compile-time values.
template <class Launcher>
int for_dtype_and_head_dim(int dtype, int head_dim, Launcher launcher) {
    constexpr std::integer_sequence<int, COLM_HEAD_DIMS> supported;
    switch (dtype) {
        case COLM_BF16: return for_head_dim(head_dim, __nv_bfloat16(), launcher, supported);
        case COLM_F16: return for_head_dim(head_dim, __half(), launcher, supported);
        default: return COLM_BAD_DTYPE;
    }
}

}  // namespace colm
