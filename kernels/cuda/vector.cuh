// 16-byte accesses: 8 numbers of 16 bits.
#pragma once

#include "instructions.cuh"
#include "limits.h"

namespace colm {

constexpr int VECTOR = COLM_VECTOR;

// The pointers of both functions are multiples of 16 bytes.
template <class T>
__device__ __forceinline__ uint4 load_vector(const T* numbers) {
    return *reinterpret_cast<const uint4*>(numbers);
}

template <class T>
__device__ __forceinline__ void store_vector(T* numbers, uint4 vector) {
    *reinterpret_cast<uint4*>(numbers) = vector;
}

template <class T>
__device__ __forceinline__ void widen(uint4 vector, float (&numbers)[VECTOR]) {
    const uint32_t pairs[4] = {vector.x, vector.y, vector.z, vector.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float2 pair = unpack2<T>(pairs[i]);
        numbers[2 * i] = pair.x;
        numbers[2 * i + 1] = pair.y;
    }
}

template <class T>
__device__ __forceinline__ uint4 narrow(const float (&numbers)[VECTOR]) {
    return make_uint4(pack2<T>(numbers[0], numbers[1]), pack2<T>(numbers[2], numbers[3]),
                      pack2<T>(numbers[4], numbers[5]), pack2<T>(numbers[6], numbers[7]));
}

__device__ __forceinline__ void load_floats(const float* from, float (&numbers)[VECTOR]) {
#pragma unroll
    for (int i = 0; i < VECTOR; i += 4) {
        const float4 four = *reinterpret_cast<const float4*>(from + i);
        numbers[i] = four.x;
        numbers[i + 1] = four.y;
        numbers[i + 2] = four.z;
        numbers[i + 3] = four.w;
    }
}

}  // namespace colm
