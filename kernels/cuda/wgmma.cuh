// wgmma, Hopper's asynchronous matrix product of a warpgroup (four warps): both operands are in
// shared memory, the accumulators in registers. Machine code for sm_90a only. The twin reads the
// operands through the same descriptors.
#pragma once

#include "instructions.cuh"

#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define COLM_HAS_WGMMA 1
#endif

namespace colm {

// The descriptor of an operand: at least 8 rows of 128 bytes, [rows, 64] with a depth of 64, at a
// multiple of 1024 bytes of shared memory, with the 128-byte swizzle (bits 4..6 of an address are
// xor-ed with bits 7..9). 8 rows take 1024 bytes. `+ WGMMA_NEXT_K16` advances the depth by 16.
constexpr uint64_t WGMMA_NEXT_K16 = 32 >> 4;
constexpr uint64_t WGMMA_SWIZZLE_128 = uint64_t{1} << 62;
constexpr int WGMMA_ALIGNMENT = 1024;

__host__ __device__ constexpr uint64_t wgmma_descriptor(unsigned shared_address) {
    constexpr uint64_t EIGHT_ROWS = WGMMA_ALIGNMENT >> 4;
    constexpr uint64_t UNUSED_FOR_SWIZZLED = uint64_t{1} << 16;
    return (shared_address & 0x3ffff) >> 4 | UNUSED_FOR_SWIZZLED | EIGHT_ROWS << 32 |
           WGMMA_SWIZZLE_128;
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Makes this thread's writes and copies to shared memory visible to the tensor cores after the next
// barrier.
__device__ __forceinline__ void fence_for_wgmma() {
    asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

// A group of products is `begin`, products, `commit`. The accumulators are valid after `wait`.
__device__ __forceinline__ void wgmma_begin() {
    asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
__device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned 0;\n" ::: "memory");
}

#define COLM_WGMMA_M64N128K16(type)                                                            \
    asm volatile(                                                                              \
        "{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\n"                                         \
        "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type                           \
        " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "             \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "     \
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "     \
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "    \
        "%64, %65, add, 1, 1, 0, 0;\n}\n"                                                      \
        : COLM_MATRIX(0), COLM_MATRIX(1), COLM_MATRIX(2), COLM_MATRIX(3), COLM_MATRIX(4),      \
          COLM_MATRIX(5), COLM_MATRIX(6), COLM_MATRIX(7), COLM_MATRIX(8), COLM_MATRIX(9),      \
          COLM_MATRIX(10), COLM_MATRIX(11), COLM_MATRIX(12), COLM_MATRIX(13), COLM_MATRIX(14), \
          COLM_MATRIX(15)                                                                      \
        : "l"(a), "l"(b))
#define COLM_MATRIX(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])

// d += a b^T, per warpgroup: a [64, 16], b [128, 16], d [64, 128] in f32. Warp w holds the rows
// from 16 w on of d as 16 matrices [16, 8] in the layout of mma_m16n8k16.
template <class T>
__device__ __forceinline__ void wgmma_m64n128k16(float (&d)[16][4], uint64_t a, uint64_t b);

template <>
__device__ __forceinline__ void wgmma_m64n128k16<__nv_bfloat16>(float (&d)[16][4], uint64_t a,
                                                                uint64_t b) {
    COLM_WGMMA_M64N128K16("bf16");
}

template <>
__device__ __forceinline__ void wgmma_m64n128k16<__half>(float (&d)[16][4], uint64_t a,
                                                         uint64_t b) {
    COLM_WGMMA_M64N128K16("f16");
}

#undef COLM_WGMMA_M64N128K16
#undef COLM_MATRIX

#elif !defined(__CUDACC__)

inline void fence_for_wgmma() {}
inline void wgmma_begin() {}
inline void wgmma_commit() {}
inline void wgmma_wait() {}

// Row `row` of an operand, 16 columns, read through its descriptor.
template <class T>
void read_operand(uint64_t descriptor, int row, float (&numbers)[16]) {
    const uint64_t start = (descriptor & 0x3fff) << 4;
    const uint64_t eight_rows = (descriptor >> 32 & 0x3fff) << 4;
    for (int column = 0; column < 16; ++column) {
        const uint64_t plain = start + row / 8 * eight_rows + row % 8 * 128 + column * 2;
        const unsigned char* from = twin::shared_memory() + (plain ^ (plain >> 7 & 7) << 4);
        numbers[column] = to_float(*reinterpret_cast<const T*>(from));
    }
}

template <class T>
void wgmma_m64n128k16(float (&d)[16][4], uint64_t a, uint64_t b) {
    const int lane = threadIdx.x % WARP;
    float x[2][16], y[16];
    for (int low = 0; low < 2; ++low) {
        read_operand<T>(a, threadIdx.x / WARP * 16 + low * 8 + lane / 4, x[low]);
    }
    for (int column = 0; column < 32; ++column) {
        read_operand<T>(b, column / 2 * 8 + lane % 4 * 2 + column % 2, y);
        for (int low = 0; low < 2; ++low) {
            for (int depth = 0; depth < 16; ++depth) {
                d[column / 2][low * 2 + column % 2] += x[low][depth] * y[depth];
            }
        }
    }
}

#endif

}  // namespace colm
