// How the thread blocks of decoding find their part of the plan: the stack, and the queries of a
// tile, which may be of several chains.
#pragma once

#include "chain_attention.cuh"

namespace colm {

// Finds the stack of this thread block: the last one whose `first` is at most `block`, where `first`
// is a running total that is larger for the next stack if this one has any blocks. The threads look
// at different stacks. `found` is in shared memory.
template <class First>
__device__ __forceinline__ const DecodeStack& find_stack(const DecodeStack* stacks, int count,
                                                         int block, First first, int* found) {
    for (int i = threadIdx.x; i < count; i += ATTENTION_THREADS) {
        if (first(stacks[i]) <= block && (i + 1 == count || block < first(stacks[i + 1]))) {
            *found = i;
        }
    }
    __syncthreads();
    return stacks[*found];
}

// One query of a stack: where it is, where its result goes, and the last position that it sees.
template <class T>
struct DecodeQuery {
    const T* q;
    T* out;
    int position;
};

// The query at `index` in a stack, for the key/value head `kv_head`.
template <class T, int HEAD_DIM>
__device__ __forceinline__ DecodeQuery<T> decode_query(const AttentionParameters<T>& parameters,
                                                       const DecodeStack& stack, int kv_head,
                                                       int index) {
    const DecodeRange* range = parameters.ranges + stack.first_range;
    for (int next = 1; next < stack.ranges && index >= range[1].first_query; ++next) ++range;
    const AttentionChain<T>& chain = parameters.chains[range->chain];
    const int query = index - range->first_query;
    const int row_of_range = query / chain.group, row = range->first_row + row_of_range;
    const int head = (kv_head - chain.first_kv_head) * chain.group + query % chain.group;
    const int64_t row_start = static_cast<int64_t>(row) * chain.heads;
    return {chain.q + row * chain.q_stride + head * HEAD_DIM,
            chain.out + (row_start + head) * HEAD_DIM, range->first_position + row_of_range};
}

// What a thread block computes, in shared memory. Queries past the last repeat it.
template <class T>
struct DecodeTable {
    const T* q[COLM_DECODE_QUERIES];
    T* out[COLM_DECODE_QUERIES];
    alignas(16) int positions[COLM_DECODE_QUERIES];
    int stack;
    int queries;
    int partial;  // the index of the partial result, or -1 if there is one split

    __device__ __forceinline__ void set(int query, const DecodeQuery<T>& found) {
        q[query] = found.q;
        out[query] = found.out;
        positions[query] = found.position;
    }
};

}  // namespace colm
