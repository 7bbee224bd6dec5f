// The device's pool of memory, from which candle allocates tensors in the order of the stream.
#include <cstdint>

#include "launch.cuh"

namespace colm {
namespace {

#ifdef __CUDACC__

// By default a pool returns what is free to the system at every synchronization of a stream, and
// the next step allocates it again.
int keep_freed_memory(int device) {
    int supported = 0;
    cudaError_t error = cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, device);
    if (error != cudaSuccess || !supported) return error;
    cudaMemPool_t pool;
    error = cudaDeviceGetMemPool(&pool, device);
    if (error != cudaSuccess) return error;
    uint64_t threshold = UINT64_MAX;
    return cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold);
}

#endif

}  // namespace
}  // namespace colm

// Lets the pool of the current device keep freed memory for later allocations instead of returning
// it to the system. It takes effect once per device and process.
extern "C" int colm_keep_freed_memory() {
#ifdef __CUDACC__
    static colm::OncePerDevice kept;
    return kept.run(nullptr, [](int device) { return colm::keep_freed_memory(device); });
#else
    return COLM_OK;
#endif
}
