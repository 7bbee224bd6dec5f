// The twin: an emulator of CUDA on the CPU, for tests. The kernel sources compile against this
// header as plain C++.
//
// Each CUDA thread of a block is a fiber; the fibers of a block take turns on one CPU thread. A
// fiber runs until it reaches a barrier: `__syncthreads` for its block; `__syncwarp`, a shuffle,
// `ldmatrix` or `mma` for its warp. Threads therefore drift as far apart as the synchronization of
// the kernel allows, in one of two orders (`twin_order`). This makes errors visible:
//
// - Shared memory is NaN in every 16- and 32-bit format when a block starts.
// - The destination of a `cp.async` is NaN until the issuing thread has waited for its group. With
//   a missing wait or barrier, results are NaN.
// - Threads that wait at different barriers, or for a thread that has returned, are reported as a
//   fault with the index of the block, instead of a hang.
// - `cp.async` and `ldmatrix` check alignment and the bounds of shared memory. A store past the end
//   of shared memory is detected when the block ends.
//
// Not emulated: clusters, atomics, named barriers, timing.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
using cudaStream_t = void*;

extern thread_local uint3 threadIdx, blockIdx;
extern thread_local dim3 blockDim, gridDim;

// 16-bit formats, as bits.
struct __nv_bfloat16 {
    uint16_t bits;
};
struct __half {
    uint16_t bits;
};

inline float __uint_as_float(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

inline uint32_t __float_as_uint(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

using std::max;
using std::min;

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
template <class T>
T __ldg(const T* global) {
    return *global;
}

namespace colm::twin {

// Runs every block of a launch in sequence. Returns 0, or TWIN_FAULT; `fault()` then describes it.
int run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel);
constexpr int TWIN_FAULT = 1000;

// The description of this CPU thread's last fault.
const char* fault();

// Ends the launch with a fault. `what` is a printf format.
[[noreturn, gnu::format(printf, 1, 2)]] void fail(const char* what, ...);

// The operands and results of one lane in a warp-wide instruction.
struct LaneData {
    const void* address;
    uint32_t words[10];
};

// Those of the calling CUDA thread.
LaneData& lane_data();

// A barrier of the warp. The last lane to arrive calls `act` with the data of all 32. Lanes that
// arrive at barriers of different names are a fault.
void sync_warp(const char* name, void (*act)(LaneData* lanes));
void sync_block();

unsigned char* shared_memory();
// A fault unless the 16 bytes at `shared` are within shared memory and aligned.
void check_shared16(const char* name, const void* shared);

void cp_async16(void* shared, const void* global, bool valid);
void cp_async_commit();
void cp_async_wait(int pending);

void load_matrices(const void* row, uint32_t (&matrices)[4], bool transposed);

float widen_bf16(uint16_t bits);
float widen_f16(uint16_t bits);
uint16_t narrow_bf16(float x);
uint16_t narrow_f16(float x);

// Returns the word of lane `source`.
uint32_t shuffle(unsigned lanes, uint32_t word, int source);
bool any(unsigned lanes, bool holds);
int lane();

}  // namespace colm::twin

inline __nv_bfloat16 __float2bfloat16_rn(float x) { return {colm::twin::narrow_bf16(x)}; }
inline __nv_bfloat16 __float2bfloat16(float x) { return __float2bfloat16_rn(x); }
inline float __bfloat162float(__nv_bfloat16 x) { return colm::twin::widen_bf16(x.bits); }
inline __half __float2half_rn(float x) { return {colm::twin::narrow_f16(x)}; }
inline __half __float2half(float x) { return __float2half_rn(x); }
inline float __half2float(__half x) { return colm::twin::widen_f16(x.bits); }

inline void __syncthreads() { colm::twin::sync_block(); }
inline void __syncwarp(unsigned lanes = 0xffffffffu) {
    if (lanes != 0xffffffffu) colm::twin::fail("__syncwarp of part of a warp is not emulated");
    colm::twin::sync_warp("__syncwarp", nullptr);
}

inline int __any_sync(unsigned lanes, int holds) { return colm::twin::any(lanes, holds); }

template <class T>
T __shfl_xor_sync(unsigned lanes, T value, int mask) {
    static_assert(sizeof(T) == 4, "shuffles are emulated for 32-bit values");
    uint32_t word;
    std::memcpy(&word, &value, 4);
    word = colm::twin::shuffle(lanes, word, (colm::twin::lane() ^ mask) & 31);
    std::memcpy(&value, &word, 4);
    return value;
}

// The wrappers of instructions.cuh.
#define COLM_SHARED(name) unsigned char* const name = colm::twin::shared_memory()

namespace colm {

inline void cp_async16(void* shared, const void* global, bool valid) {
    twin::cp_async16(shared, global, valid);
}
inline void cp_async_commit() { twin::cp_async_commit(); }
template <int PENDING>
void cp_async_wait() {
    twin::cp_async_wait(PENDING);
}

inline void ldmatrix_x4(uint32_t (&matrices)[4], const void* row) {
    twin::load_matrices(row, matrices, false);
}
inline void ldmatrix_x4_trans(uint32_t (&matrices)[4], const void* row) {
    twin::load_matrices(row, matrices, true);
}

template <class T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
template <>
void mma_m16n8k16<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
template <>
void mma_m16n8k16<__half>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

inline float exp2_approx(float x) { return std::exp2(x); }

template <class T>
T from_float(float x);
template <>
inline __nv_bfloat16 from_float(float x) {
    return __float2bfloat16_rn(x);
}
template <>
inline __half from_float(float x) {
    return __float2half_rn(x);
}

inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
inline float to_float(__half x) { return __half2float(x); }

template <class T>
uint32_t pack2(float low, float high) {
    return from_float<T>(low).bits | static_cast<uint32_t>(from_float<T>(high).bits) << 16;
}

template <class T>
float2 unpack2(uint32_t packed) {
    return {to_float(T{static_cast<uint16_t>(packed)}),
            to_float(T{static_cast<uint16_t>(packed >> 16)})};
}

}  // namespace colm
