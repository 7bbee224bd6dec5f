// Causal softmax attention of all chains of a layer over the paged KV cache, after
// FlashAttention-2: tiles of keys pass through shared memory, the softmax is computed online, and
// scores are never written to global memory. attention_plan.cuh describes the division of the work.
#include "attention_decode.cuh"
#include "attention_prefill.cuh"

namespace colm {

namespace {

constexpr float LOG2_E = 1.4426950408889634f;

int check_chain(const ColmChainHeads& heads, const ColmChainTensors& tensors, int head_dim,
                const ColmKvBlocks& kv) {
    if (heads.heads <= 0 || heads.kv_heads <= 0 || heads.heads % heads.kv_heads != 0 ||
        heads.first_kv_head < 0 || heads.first_kv_head + heads.kv_heads > kv.kv_heads) {
        return COLM_BAD_HEADS;
    }
    if (tensors.q_stride % VECTOR != 0 || tensors.q_stride < heads.heads * head_dim) {
        return COLM_BAD_SHAPE;
    }
    return aligned16(tensors.q, tensors.out) ? COLM_OK : COLM_BAD_ALIGNMENT;
}

template <class T, int HEAD_DIM>
int launch_plan(const AttentionParameters<T>& parameters, const ColmAttentionPlan& plan,
                cudaStream_t stream) {
    const dim3 threads(ATTENTION_THREADS);
    int status = COLM_OK;
    if (plan.prefill > 0) {
        status = launch(prefill_attention<T, HEAD_DIM>, plan.prefill, threads,
                        Prefill<T, HEAD_DIM>::SHARED_BYTES, stream, parameters);
    }
    if (plan.decode > 0 && status == COLM_OK) {
        status = launch(decode_attention<T, HEAD_DIM>, plan.decode, threads,
                        Decode<T, HEAD_DIM>::SHARED_BYTES, stream, parameters);
    }
    if (plan.combine > 0 && status == COLM_OK) {
        status = launch(combine_attention<T, HEAD_DIM>, dim3(plan.combine, COLM_DECODE_QUERIES),
                        threads, COMBINE_SHARED_BYTES<HEAD_DIM>, stream, parameters);
    }
    return status;
}

}  // namespace

}  // namespace colm

// The attention of `chains` chains of one layer, as planned by colm_attention_plan. `heads` and
// `tensors` are arrays on the host of at most COLM_MAX_CHAINS. On the device are `tables`,
// [sequences, max_blocks], the KV blocks of each sequence in order of position; `words`, the plan;
// and `partials`, plan->partials x COLM_DECODE_QUERIES x (head_dim + 2) floats that nothing else may
// use until the work is done, null if there are none. `scale` is positive, usually 1 / sqrt(head_dim).
extern "C" int colm_chain_attention(int dtype, int head_dim, const ColmChainHeads* heads,
                                    const ColmChainTensors* tensors, int chains,
                                    const ColmKvBlocks* kv, const uint32_t* tables, int max_blocks,
                                    const uint32_t* words, const ColmAttentionPlan* plan,
                                    float* partials, float scale, void* stream) {
    using namespace colm;
    if (chains < 0 || chains > COLM_MAX_CHAINS) return COLM_BAD_CHAIN_COUNT;
    if (max_blocks < 0 || !(scale > 0.0f)) return COLM_BAD_SHAPE;
    if (const int status = check_blocks(*kv)) return status;
    if (!aligned16(partials)) return COLM_BAD_ALIGNMENT;
    for (int i = 0; i < chains; ++i) {
        if (const int status = check_chain(heads[i], tensors[i], head_dim, *kv)) return status;
    }
    return for_dtype_and_head_dim(dtype, head_dim, [&](auto number, auto dim) {
        using T = decltype(number);
        const auto* const prefill = reinterpret_cast<const PrefillTile*>(words);
        const auto* const stacks = reinterpret_cast<const DecodeStack*>(prefill + plan->prefill);
        const auto* const ranges = reinterpret_cast<const DecodeRange*>(stacks + plan->stacks);
        AttentionParameters<T> parameters{{},           KvBlocks<T>(*kv), tables, max_blocks,
                                          plan->stacks, prefill,          stacks, ranges,
                                          partials,     scale * LOG2_E};
        for (int i = 0; i < chains; ++i) {
            parameters.chains[i] = {static_cast<const T*>(tensors[i].q),
                                    static_cast<T*>(tensors[i].out),
                                    tensors[i].q_stride,
                                    heads[i].heads,
                                    heads[i].first_kv_head,
                                    heads[i].heads / heads[i].kv_heads};
        }
        return launch_plan<T, dim>(parameters, *plan, static_cast<cudaStream_t>(stream));
    });
}
