/* The launchers of the linear layers and of the norms: ChainLinear and ChainRmsNorm
 * (docs/spec.md#layers) for all chains of a step in one launch.
 *
 * Every chain has its own rows. Those of chain i are among those of every earlier chain, which it
 * reads. Tensors are row-major and contiguous, of one dtype (ColmDtype), and aligned to 16 bytes.
 * Widths are multiples of COLM_VECTOR. Chains are counted from 0. The structures are on the host
 * and are read before a launcher returns; the tensors are on the device. */
#pragma once

#include <stdint.h>

#include "limits.h"

/* x of one chain. */
struct ColmLinearInput {
    const void* x; /* [rows, width] */
    /* [chain, rows]: row r of this chain is row row_map[j * rows + r] of chain j. Null if all
     * chains up to this one have the same rows. */
    const int32_t* row_map;
    int32_t rows;
    int32_t width;
};

/* One chain of one layer, with x = x_<=chain: y = residual + W x + b, or, if the layer is gated,
 * y = residual + silu(W x + b) * (U x + c). */
struct ColmLinearProduct {
    const void* weight;   /* W [outputs, in_<=chain] */
    const void* up;       /* U, of the same shape, or null if the layer is not gated */
    const void* bias;     /* b [outputs], or null */
    const void* up_bias;  /* c [outputs], or null */
    const void* residual; /* [rows of the chain, outputs], or null; may be y */
    void* y;              /* [rows of the chain, outputs] */
    int32_t chain;
    int32_t outputs;
};

/* All chains of one layer, or of several that read the same x. Either all products are gated or
 * none. */
struct ColmChainLinear {
    int32_t dtype;
    int32_t chains;
    int32_t products;
    int32_t reserved;
    struct ColmLinearInput inputs[COLM_MAX_CHAINS];
    struct ColmLinearProduct product[COLM_MAX_PRODUCTS];
};

/* One chain of a norm: y = weight * x / sqrt(mean(x^2) + eps), with the mean over a row. */
struct ColmNormChain {
    const void* x;      /* [rows, width] */
    const void* weight; /* [width] */
    void* y;            /* [rows, width]; may be x */
    int32_t rows;
    int32_t width;
};

struct ColmChainNorm {
    int32_t dtype;
    int32_t chains;
    float eps;
    int32_t reserved;
    struct ColmNormChain chain[COLM_MAX_CHAINS];
};

#ifdef __cplusplus
extern "C" {
#endif

/* The launchers enqueue the work on `stream` (a cudaStream_t) and return a ColmStatus. */
int colm_chain_linear(const struct ColmChainLinear* linear, void* stream);
/* The same with wgmma on Hopper; on other devices it is colm_chain_linear. */
int colm_chain_linear_wgmma(const struct ColmChainLinear* linear, void* stream);
/* Fails if a chain has more than COLM_MAX_SKINNY_ROWS rows. The other two call it if none has. */
int colm_chain_linear_decode(const struct ColmChainLinear* linear, void* stream);
int colm_chain_rms_norm(const struct ColmChainNorm* norm, void* stream);

/* The sizes of the structures, for checks in callers that declare them in another language. */
int32_t colm_sizeof_chain_linear(void);
int32_t colm_sizeof_chain_norm(void);

#ifdef __cplusplus
}
#endif
