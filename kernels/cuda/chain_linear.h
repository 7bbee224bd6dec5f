/* The arguments of the linear layers and of the norms, in plain C: SPEC 2's ChainLinear and
 * ChainRmsNorm for all chains of a step at once.
 *
 * A chain has rows, and every chain its own: those of chain i are among those of the chains below
 * it, which it reads. Tensors are dense, row after row, of one dtype (ColmDtype) and start at
 * multiples of 16 bytes; widths are multiples of 8. Chains are counted from 0. The structures are
 * read before the launchers return; what they point to is on the device. */
#pragma once

#include <stdint.h>

enum {
    COLM_MAX_CHAINS = 16,
    /* q, k and v of every chain. */
    COLM_MAX_PRODUCTS = 3 * COLM_MAX_CHAINS,
    /* Up to so many rows a chain takes the path of decoding: a row's bits are the same for any
     * number of rows up to this, and for any number above it. */
    COLM_MAX_THIN_ROWS = 32,
};

/* x of one chain. */
struct ColmLinearInput {
    const void* x; /* [rows, width] */
    /* [chain, rows]: row r of this chain is row places[j * rows + r] of chain j. Null: all chains
     * up to this one have the same rows. */
    const int32_t* places;
    int32_t rows;
    int32_t width;
};

/* One chain of one layer, x being x_<=chain: y = residual + W x + b, or if the layer is gated
 * y = residual + silu(W x + b) * (U x + c). */
struct ColmLinearProduct {
    const void* weight;   /* W [outputs, in_<=chain] */
    const void* up;       /* U of the same shape; null if the layer is not gated */
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

/* One chain of a norm: y = weight * h / sqrt(mean(h^2) + eps), the mean over a row of h = x, or of
 * h = x + residual rounded to the dtype, which is then also written to `sum`. */
struct ColmNormChain {
    const void* x;        /* [rows, width] */
    const void* residual; /* [rows, width], or null */
    const void* weight;   /* [width] */
    void* sum;            /* [rows, width], or null if residual is; may be x or residual */
    void* y;              /* [rows, width]; may be x or residual, but not sum */
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

/* The launchers put the work on `stream` (a cudaStream_t) and return a ColmStatus. */
int colm_chain_linear(const struct ColmChainLinear* linear, void* stream);
/* The same by instructions of Hopper, where the device has them. */
int colm_chain_linear_wgmma(const struct ColmChainLinear* linear, void* stream);
/* Refuses chains of more than COLM_MAX_THIN_ROWS rows. `colm_chain_linear` comes here by itself. */
int colm_chain_linear_decode(const struct ColmChainLinear* linear, void* stream);
int colm_chain_rms_norm(const struct ColmChainNorm* norm, void* stream);

/* The sizes of the structures, for callers that declare them in another language. */
int32_t colm_sizeof_chain_linear(void);
int32_t colm_sizeof_chain_norm(void);

#ifdef __cplusplus
}
#endif
