// RoPE, and the write of new keys and values to the paged KV cache.
#include "kv_blocks.cuh"
#include "vector.cuh"

// The new rows of one chain: queries, keys and values, or some of them. Row r has the position
// `positions[r]`. Its key and value go to slot `slots[r]` = block * block_size + offset, unless that
// is negative. Strides are those of rows, in numbers; the heads of a row are contiguous.
struct ColmRopeChain {
    const void* q;       // [rows, heads, head_dim]
    void* q_out;         // the same, rotated; may be q
    const void* keys;    // [rows, kv_heads, head_dim]
    const void* values;  // [rows, kv_heads, head_dim]
    int64_t q_stride;
    int64_t q_out_stride;
    int64_t keys_stride;
    int64_t values_stride;
    const int32_t* positions;
    const int64_t* slots;
    int rows;
    int heads;          // 0 without queries
    int kv_heads;       // 0 without keys and values
    int first_kv_head;  // of those that are written, in the cache
};

namespace colm {

namespace {

constexpr int THREADS = 128;

// The parameters of the kernel, with the running total of thread blocks: from 0 before the first
// chain to that after the last.
template <class T>
struct RopePlan {
    ColmRopeChain chains[COLM_MAX_CHAINS];
    int32_t first_block[COLM_MAX_CHAINS + 1];
    // [max_positions, head_dim / 2] each, or null: then nothing is rotated.
    const float* cos;
    const float* sin;
    KvBlocks<T> blocks;
};
static_assert(sizeof(RopePlan<__half>) <= 4096, "before CUDA 12.1 kernel parameters are limited");

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
__device__ __forceinline__ void rotate(const RopePlan<T>& plan, int position, int left, uint4& x,
                                       uint4& y) {
    const int64_t at = static_cast<int64_t>(position) * (HEAD_DIM / 2) + left;
    float cos[VECTOR], sin[VECTOR], a[VECTOR], b[VECTOR], rotated_a[VECTOR], rotated_b[VECTOR];
    load_floats(plan.cos + at, cos);
    load_floats(plan.sin + at, sin);
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

// The heads of a row are its query heads, then its key/value heads.
template <class T, int HEAD_DIM>
__global__ void __launch_bounds__(THREADS)
    rope_and_write(const __grid_constant__ RopePlan<T> plan) {
    int index = 0;
    while (static_cast<int>(blockIdx.x) >= plan.first_block[index + 1]) ++index;
    const ColmRopeChain& chain = plan.chains[index];
    const int64_t block = static_cast<int>(blockIdx.x) - plan.first_block[index];
    const Pairs<HEAD_DIM> at(block * THREADS + threadIdx.x, chain.heads + chain.kv_heads);
    if (at.row >= chain.rows) return;
    const bool is_query = at.head < chain.heads;
    const int head = is_query ? at.head : at.head - chain.heads;
    const int64_t slot = is_query ? 0 : chain.slots[at.row];
    if (slot < 0) return;

    const int64_t offset = head * HEAD_DIM + at.left;
    const T* const from = static_cast<const T*>(is_query ? chain.q : chain.keys) +
                          at.row * (is_query ? chain.q_stride : chain.keys_stride) + offset;
    uint4 left = load_vector(from), right = load_vector(from + HEAD_DIM / 2);
    uint4 value_left = {}, value_right = {};
    if (!is_query) {
        const T* const value =
            static_cast<const T*>(chain.values) + at.row * chain.values_stride + offset;
        value_left = load_vector(value);
        value_right = load_vector(value + HEAD_DIM / 2);
    }
    if (plan.cos != nullptr) {
        rotate<T, HEAD_DIM>(plan, chain.positions[at.row], at.left, left, right);
    }
    if (is_query) {
        T* const to = static_cast<T*>(chain.q_out) + at.row * chain.q_out_stride + offset;
        store_vector(to, left);
        store_vector(to + HEAD_DIM / 2, right);
        return;
    }
    const KvBlocks<T>& blocks = plan.blocks;
    const size_t to = blocks.template row<HEAD_DIM>(static_cast<uint32_t>(slot / blocks.block_size),
                                                    chain.first_kv_head + head,
                                                    static_cast<int>(slot % blocks.block_size)) +
                      at.left;
    store_vector(blocks.keys + to, left);
    store_vector(blocks.keys + to + HEAD_DIM / 2, right);
    store_vector(blocks.values + to, value_left);
    store_vector(blocks.values + to + HEAD_DIM / 2, value_right);
}

template <int HEAD_DIM>
int blocks_of(const ColmRopeChain& chain) {
    const int64_t heads = static_cast<int64_t>(chain.rows) * (chain.heads + chain.kv_heads);
    return static_cast<int>((heads * Pairs<HEAD_DIM>::PER_HEAD + THREADS - 1) / THREADS);
}

int check_rows(int rows, int heads, int64_t stride, int head_dim) {
    if (rows < 0 || stride % VECTOR != 0 || stride < static_cast<int64_t>(heads) * head_dim) {
        return COLM_BAD_SHAPE;
    }
    return heads >= 0 ? COLM_OK : COLM_BAD_HEADS;
}

int check(const ColmRopeChain& chain, int head_dim, const ColmKvBlocks* blocks) {
    for (const int64_t stride : {chain.q_stride, chain.q_out_stride}) {
        if (const int status = check_rows(chain.rows, chain.heads, stride, head_dim)) return status;
    }
    for (const int64_t stride : {chain.keys_stride, chain.values_stride}) {
        const int status = check_rows(chain.rows, chain.kv_heads, stride, head_dim);
        if (status != COLM_OK) return status;
    }
    if (chain.heads + chain.kv_heads == 0) return COLM_BAD_HEADS;
    if (chain.kv_heads > 0) {
        if (blocks == nullptr || chain.first_kv_head < 0 ||
            chain.first_kv_head + chain.kv_heads > blocks->kv_heads) {
            return COLM_BAD_HEADS;
        }
    }
    return aligned16(chain.q, chain.q_out, chain.keys, chain.values) ? COLM_OK : COLM_BAD_ALIGNMENT;
}

template <class T, int HEAD_DIM>
int launch_rope(const ColmRopeChain* chains, int count, const float* cos, const float* sin,
                const ColmKvBlocks& blocks, void* stream) {
    RopePlan<T> plan = {{}, {}, cos, sin, KvBlocks<T>(blocks)};
    for (int i = 0; i < count; ++i) {
        plan.chains[i] = chains[i];
        plan.first_block[i + 1] = plan.first_block[i] + blocks_of<HEAD_DIM>(chains[i]);
    }
    const int total = plan.first_block[count];
    if (total == 0) return COLM_OK;
    return launch(rope_and_write<T, HEAD_DIM>, total, THREADS, 0, static_cast<cudaStream_t>(stream),
                  plan);
}

}  // namespace

}  // namespace colm

// Applies RoPE to the queries and new keys of `count` chains, and writes the keys and values to the
// cache, in one launch. `chains` is an array on the host. `cos` and `sin` are f32
// [max_positions, head_dim / 2]; if they are null, nothing is rotated. `blocks` may be null if no
// chain has keys.
extern "C" int colm_rope_and_write(int dtype, int head_dim, const ColmRopeChain* chains, int count,
                                   const float* cos, const float* sin, const ColmKvBlocks* blocks,
                                   void* stream) {
    using namespace colm;
    if (count < 0 || count > COLM_MAX_CHAINS) return COLM_BAD_CHAIN_COUNT;
    if (blocks != nullptr) {
        if (const int status = check_blocks(*blocks)) return status;
    }
    for (int i = 0; i < count; ++i) {
        if (const int status = check(chains[i], head_dim, blocks)) return status;
    }
    if (!aligned16(cos, sin)) return COLM_BAD_ALIGNMENT;
    const ColmKvBlocks none = {nullptr, nullptr, 1, POSITION_GROUP};
    return for_dtype_and_head_dim(dtype, head_dim, [&](auto number, auto dim) {
        return launch_rope<decltype(number), dim>(chains, count, cos, sin, blocks ? *blocks : none,
                                                  stream);
    });
}

// Applies RoPE to `x` [rows, heads, head_dim], row r at `positions[r]`, and writes to `out`, which
// may be `x`. The row strides are `x_stride` and `out_stride` numbers. `cos` and `sin` are f32
// [max_positions, head_dim / 2].
extern "C" int colm_rope(int dtype, int head_dim, const void* x, int64_t x_stride, void* out,
                         int64_t out_stride, int rows, int heads, const float* cos,
                         const float* sin, const int32_t* positions, void* stream) {
    ColmRopeChain chain = {};
    chain.q = x;
    chain.q_stride = x_stride;
    chain.q_out = out;
    chain.q_out_stride = out_stride;
    chain.positions = positions;
    chain.rows = rows;
    chain.heads = heads;
    return colm_rope_and_write(dtype, head_dim, &chain, 1, cos, sin, nullptr, stream);
}

// Writes keys and values [rows, heads, head_dim] to the cache's heads from `first_head` on, row r
// to slot `slots[r]` = block * block_size + offset. Rows with a negative slot are skipped. RoPE is
// applied to the keys, row r at `positions[r]`, unless `cos` and `sin` are null.
extern "C" int colm_kv_write(int dtype, int head_dim, const void* keys, int64_t keys_stride,
                             const void* values, int64_t values_stride, int rows, int first_head,
                             int heads, const float* cos, const float* sin,
                             const int32_t* positions, const int64_t* slots,
                             const ColmKvBlocks* blocks, void* stream) {
    ColmRopeChain chain = {};
    chain.keys = keys;
    chain.keys_stride = keys_stride;
    chain.values = values;
    chain.values_stride = values_stride;
    chain.positions = positions;
    chain.slots = slots;
    chain.rows = rows;
    chain.kv_heads = heads;
    chain.first_kv_head = first_head;
    return colm_rope_and_write(dtype, head_dim, &chain, 1, cos, sin, blocks, stream);
}
