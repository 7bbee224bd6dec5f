// The matrix instructions of a warp, and the 16-bit formats.
#include "launch.cuh"

namespace {

template <class T>
__global__ void product(bool transposed, const T* a, const T* b, float* product) {
    COLM_SHARED(shared);
    T* const a_rows = reinterpret_cast<T*>(shared);
    T* const b_rows = a_rows + 16 * 16;
    const int lane = threadIdx.x;
    for (int i = lane; i < 16 * 16; i += 32) a_rows[i] = a[i];
    for (int i = lane; i < 16 * 8; i += 32) b_rows[i] = b[i];
    __syncwarp();
    const int row = lane % 8, low = lane / 8 % 2, high = lane / 16;
    uint32_t a_part[4], b_part[4];
    colm::ldmatrix_x4(a_part, a_rows + (8 * low + row) * 16 + 8 * high);
    if (transposed) {
        colm::ldmatrix_x4(b_part, b_rows + row * 16 + 8 * low);
    } else {
        colm::ldmatrix_x4_trans(b_part, b_rows + (8 * low + row) * 8);
    }
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    // b has two matrices; the upper half of the lanes loads them again.
    colm::mma_m16n8k16<T>(sums, a_part, {b_part[0], b_part[1]});
    for (int i = 0; i < 4; ++i) {
        product[(lane / 4 + i / 2 * 8) * 8 + 2 * (lane % 4) + i % 2] = sums[i];
    }
}

template <class T>
int launch_product(bool transposed, const void* a, const void* b, float* out) {
    return colm::launch(product<T>, 1, 32, 2 * (16 * 16 + 16 * 8), nullptr, transposed,
                        static_cast<const T*>(a), static_cast<const T*>(b), out);
}

}  // namespace

extern "C" int twin_product(int dtype, bool transposed, const void* a, const void* b, float* out) {
    return dtype == COLM_BF16 ? launch_product<__nv_bfloat16>(transposed, a, b, out)
                              : launch_product<__half>(transposed, a, b, out);
}

extern "C" uint16_t twin_round(int dtype, float x) {
    return dtype == COLM_BF16 ? __float2bfloat16(x).bits : __float2half(x).bits;
}

extern "C" float twin_widen(int dtype, uint16_t bits) {
    return dtype == COLM_BF16 ? __bfloat162float({bits}) : __half2float({bits});
}
