// Causal softmax attention of all chains of a layer over the paged cache, after FlashAttention-2:
// the keys pass through shared memory tile by tile, the softmax is kept online, and no score ever
// reaches global memory. attention_plan.cuh says how the work is cut.
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
int launch_plan(AttentionParameters<T> parameters, const ColmAttentionPlan& plan,
                cudaStream_t stream) {
    const dim3 threads(ATTENTION_THREADS);
    int status = COLM_OK;
    if (plan.prefill > 0) {
        status = launch(prefill_attention<T, HEAD_DIM>, plan.prefill, threads,
                        Prefill<T, HEAD_DIM>::SHARED_BYTES, stream, parameters);
        parameters.items += plan.prefill;
    }
    if (plan.decode > 0 && status == COLM_OK) {
        status = launch(decode_attention<T, HEAD_DIM>, plan.decode, threads,
                        Decode<T, HEAD_DIM>::SHARED_BYTES, stream, parameters);
        parameters.items += plan.decode;
    }
    if (plan.combine > 0 && status == COLM_OK) {
        constexpr size_t SHARED_BYTES = ATTENTION_WARPS * (HEAD_DIM + 2) * sizeof(float);
        status = launch(combine_attention<T, HEAD_DIM>, dim3(plan.combine, DECODE_SLOTS), threads,
                        SHARED_BYTES, stream, parameters);
    }
    return status;
}

}  // namespace

}  // namespace colm

// Attention of `chains` (at most 32, arrays on the host) as planned by colm_attention_plan, at one
// layer. On the device: `tables`, [sequences, max_blocks] of blocks in order of position; `items`;
// `partials`, room for plan->partials x 16 x (head_dim + 2) floats, not used by anything else until
// this is done. `scale` is positive, as a rule 1 / sqrt(head_dim).
extern "C" int colm_chain_attention(int dtype, int head_dim, const ColmChainHeads* heads,
                                    const ColmChainTensors* tensors, int chains,
                                    const ColmKvBlocks* kv, const uint32_t* tables, int max_blocks,
                                    const ColmAttentionItem* items, const ColmAttentionPlan* plan,
                                    float* partials, float scale, void* stream) {
    using namespace colm;
    if (chains < 0 || chains > MAX_CHAINS || max_blocks < 0 || !(scale > 0.0f))
        return COLM_BAD_SHAPE;
    if (const int refused = check_blocks(*kv)) return refused;
    if (!aligned16(partials)) return COLM_BAD_ALIGNMENT;
    for (int i = 0; i < chains; ++i) {
        if (const int refused = check_chain(heads[i], tensors[i], head_dim, *kv)) return refused;
    }
    return for_dtype_and_head_dim(dtype, head_dim, [&](auto number, auto dim) {
        using T = decltype(number);
        AttentionParameters<T> parameters{{},    KvBlocks<T>(*kv), tables,        max_blocks,
                                          items, partials,         scale * LOG2_E};
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
