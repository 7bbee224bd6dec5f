// RoPE, and the write of new keys and values to the paged KV cache.
#include "kv_blocks.cuh"
#include "vector.cuh"

namespace colm {

namespace {

constexpr int THREADS = 128;

// Rows of heads: head h of row r starts at `start + r * stride + h * head_dim`.
template <class T>
struct HeadRows {
    T* start;
    int64_t stride;
};

// The cosines and sines of RoPE, each [max_positions, head_dim / 2], and the position of each row.
// Null tables leave the keys as they are.
struct Rotation {
    const float* cos;
    const float* sin;
    const int32_t* positions;
};

// The numbers of one thread: 8 of the left half of a head, and their partners in the right half.
template <int HEAD_DIM>
struct Pairs {
    int row, head, left;
    static constexpr int PER_HEAD = HEAD_DIM / 2 / VECTOR;

    __device__ __forceinline__ Pairs(int64_t thread, int heads)
        : row(static_cast<int>(thread / (heads * PER_HEAD))),
          head(static_cast<int>(thread / PER_HEAD % heads)),
          left(static_cast<int>(thread % PER_HEAD) * VECTOR) {}
};

template <class T, int HEAD_DIM>
__device__ __forceinline__ void rotate(const Rotation& rotation, int row, int left, uint4& x,
                                       uint4& y) {
    if (rotation.cos == nullptr) return;
    const int64_t at = static_cast<int64_t>(rotation.positions[row]) * (HEAD_DIM / 2) + left;
    float cos[VECTOR], sin[VECTOR], a[VECTOR], b[VECTOR], rotated_a[VECTOR], rotated_b[VECTOR];
    load_floats(rotation.cos + at, cos);
    load_floats(rotation.sin + at, sin);
    widen<T>(x, a);
    widen<T>(y, b);
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) {
        rotated_a[i] = a[i] * cos[i] - b[i] * sin[i];
        rotated_b[i] = b[i] * cos[i] + a[i] * sin[i];
    }
    x = narrow<T>(rotated_a);
    y = narrow<T>(rotated_b);
}

template <class T, int HEAD_DIM>
__global__ void __launch_bounds__(THREADS)
    rope(HeadRows<const T> x, HeadRows<T> out, int rows, int heads, Rotation rotation) {
    const int64_t thread = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
    const Pairs<HEAD_DIM> at(thread, heads);
    if (at.row >= rows) return;
    const T* from = x.start + at.row * x.stride + at.head * HEAD_DIM + at.left;
    uint4 left = load_vector(from), right = load_vector(from + HEAD_DIM / 2);
    rotate<T, HEAD_DIM>(rotation, at.row, at.left, left, right);
    T* to = out.start + at.row * out.stride + at.head * HEAD_DIM + at.left;
    store_vector(to, left);
    store_vector(to + HEAD_DIM / 2, right);
}

template <class T, int HEAD_DIM>
__global__ void __launch_bounds__(THREADS)
    kv_write(HeadRows<const T> keys, HeadRows<const T> values, int rows, int first_head, int heads,
             Rotation rotation, const int64_t* slots, KvBlocks<T> blocks) {
    const int64_t thread = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
    const Pairs<HEAD_DIM> at(thread, heads);
    if (at.row >= rows) return;
    const int64_t slot = slots[at.row];
    if (slot < 0) return;
    const int64_t offset = at.head * HEAD_DIM + at.left;
    const T* key = keys.start + at.row * keys.stride + offset;
    const T* value = values.start + at.row * values.stride + offset;
    uint4 left = load_vector(key), right = load_vector(key + HEAD_DIM / 2);
    const uint4 value_left = load_vector(value), value_right = load_vector(value + HEAD_DIM / 2);
    rotate<T, HEAD_DIM>(rotation, at.row, at.left, left, right);
    const size_t to = blocks.template row<HEAD_DIM>(static_cast<uint32_t>(slot / blocks.block_size),
                                                    first_head + at.head,
                                                    static_cast<int>(slot % blocks.block_size)) +
                      at.left;
    store_vector(blocks.keys + to, left);
    store_vector(blocks.keys + to + HEAD_DIM / 2, right);
    store_vector(blocks.values + to, value_left);
    store_vector(blocks.values + to + HEAD_DIM / 2, value_right);
}

template <int HEAD_DIM>
unsigned grid_of(int rows, int heads) {
    const int64_t threads = static_cast<int64_t>(rows) * heads * Pairs<HEAD_DIM>::PER_HEAD;
    return static_cast<unsigned>((threads + THREADS - 1) / THREADS);
}

int check_rows(int rows, int heads, int64_t stride, int head_dim) {
    if (rows < 0 || stride % VECTOR != 0 || stride < static_cast<int64_t>(heads) * head_dim) {
        return COLM_BAD_SHAPE;
    }
    return heads > 0 ? COLM_OK : COLM_BAD_HEADS;
}

}  // namespace

}  // namespace colm

// Applies RoPE to `x` [rows, heads, head_dim], row r at `positions[r]`, and writes to `out`, which
// may be `x`. The row strides are `x_stride` and `out_stride` numbers. `cos` and `sin` are f32
// [max_positions, head_dim / 2].
extern "C" int colm_rope(int dtype, int head_dim, const void* x, int64_t x_stride, void* out,
                         int64_t out_stride, int rows, int heads, const float* cos,
                         const float* sin, const int32_t* positions, void* stream) {
    using namespace colm;
    for (const int64_t stride : {x_stride, out_stride}) {
        if (const int status = check_rows(rows, heads, stride, head_dim)) return status;
    }
    if (!aligned16(x, out, cos, sin)) return COLM_BAD_ALIGNMENT;
    if (rows == 0) return COLM_OK;
    return for_dtype_and_head_dim(dtype, head_dim, [&](auto number, auto dim) {
        using T = decltype(number);
        constexpr int HEAD_DIM = dim;
        return launch(rope<T, HEAD_DIM>, grid_of<HEAD_DIM>(rows, heads), THREADS, 0,
                      static_cast<cudaStream_t>(stream),
                      HeadRows<const T>{static_cast<const T*>(x), x_stride},
                      HeadRows<T>{static_cast<T*>(out), out_stride}, rows, heads,
                      Rotation{cos, sin, positions});
    });
}

// Writes keys and values [rows, heads, head_dim] to the cache's heads from `first_head` on, row r
// to slot `slots[r]` = block * block_size + offset. Rows with a negative slot are skipped. RoPE is
// applied to the keys, row r at `positions[r]`, unless `cos` and `sin` are null.
extern "C" int colm_kv_write(int dtype, int head_dim, const void* keys, int64_t keys_stride,
                             const void* values, int64_t values_stride, int rows, int first_head,
                             int heads, const float* cos, const float* sin,
                             const int32_t* positions, const int64_t* slots,
                             const ColmKvBlocks* blocks, void* stream) {
    using namespace colm;
    for (const int64_t stride : {keys_stride, values_stride}) {
        if (const int status = check_rows(rows, heads, stride, head_dim)) return status;
    }
    if (const int status = check_blocks(*blocks)) return status;
    if (first_head < 0 || first_head + heads > blocks->kv_heads) return COLM_BAD_HEADS;
    if (!aligned16(keys, values, cos, sin)) return COLM_BAD_ALIGNMENT;
    if (rows == 0) return COLM_OK;
    return for_dtype_and_head_dim(dtype, head_dim, [&](auto number, auto dim) {
        using T = decltype(number);
        constexpr int HEAD_DIM = dim;
        return launch(kv_write<T, HEAD_DIM>, grid_of<HEAD_DIM>(rows, heads), THREADS, 0,
                      static_cast<cudaStream_t>(stream),
                      HeadRows<const T>{static_cast<const T*>(keys), keys_stride},
                      HeadRows<const T>{static_cast<const T*>(values), values_stride}, rows,
                      first_head, heads, Rotation{cos, sin, positions}, slots,
                      KvBlocks<T>(*blocks));
    });
}
