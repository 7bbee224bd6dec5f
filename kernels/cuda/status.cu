// Descriptions of the launchers' status codes.
#include "launch.cuh"

#define COLM_QUOTE(...) #__VA_ARGS__
// The values of a macro as a string.
#define COLM_TEXT(...) COLM_QUOTE(__VA_ARGS__)

extern "C" const char* colm_status_text(int status) {
    switch (status) {
        case COLM_OK: return "ok";
        case COLM_BAD_DTYPE: return "dtype is neither bf16 (0) nor f16 (1)";
        case COLM_BAD_HEAD_DIM:
            return "head_dim is not one of the supported " COLM_TEXT(COLM_HEAD_DIMS);
        case COLM_BAD_BLOCK_SIZE:
            return "block_size is not one of the supported " COLM_TEXT(COLM_BLOCK_SIZES);
        case COLM_BAD_HEADS: return "heads are not a positive multiple of the key/value heads read";
        case COLM_BAD_SHAPE:
            return "a size is negative, or not a multiple of what the kernel needs";
        case COLM_BAD_ALIGNMENT: return "a tensor is not aligned to 16 bytes";
        case COLM_BAD_CHAIN_COUNT:
            return "the number of chains is not supported: at most " COLM_TEXT(COLM_MAX_CHAINS);
    }
#ifdef __CUDACC__
    return cudaGetErrorString(static_cast<cudaError_t>(status));
#else
    return colm::twin::fault();
#endif
}
