// The launchers' status codes in words.
#include "launch.cuh"

extern "C" const char* colm_status_text(int status) {
    switch (status) {
        case COLM_OK: return "ok";
        case COLM_BAD_DTYPE: return "dtype is neither bf16 (0) nor f16 (1)";
        case COLM_BAD_HEAD_DIM: return "head_dim is not one the kernels are built for: 32, 64 or 128";
        case COLM_BAD_BLOCK_SIZE: return "block_size is not 16, 32, 48 or 64";
        case COLM_BAD_HEADS: return "heads are not a positive multiple of the key/value heads read";
        case COLM_BAD_SHAPE:
            return "a size is negative, or not a multiple of what the kernel needs";
        case COLM_BAD_ALIGNMENT: return "a tensor does not start at a multiple of 16 bytes";
    }
#ifdef __CUDACC__
    return cudaGetErrorString(static_cast<cudaError_t>(status));
#else
    return colm::twin::fault();
#endif
}
