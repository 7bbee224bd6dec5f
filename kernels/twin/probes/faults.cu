// Kernels with deliberate errors, to check that the twin detects them.
#include "launch.cuh"

namespace {

constexpr int THREADS = 128;

enum CopyFault { NONE, NO_WAIT, NO_COMMIT, NO_BARRIER, UNWRITTEN };

// Thread t copies 16 bytes to shared memory and writes those of the thread half a block away to
// `to`.
__global__ void copy(int fault, const __half* from, __half* to) {
    COLM_SHARED(shared);
    const int mine = threadIdx.x, other = (mine + THREADS / 2) % THREADS;
    if (!(fault == UNWRITTEN && mine == 7)) {
        colm::cp_async16(shared + 16 * mine, from + 8 * mine, true);
    }
    if (fault != NO_COMMIT) colm::cp_async_commit();
    if (fault != NO_WAIT) colm::cp_async_wait<0>();
    if (fault != NO_BARRIER) __syncthreads();
    reinterpret_cast<uint4*>(to)[other] = reinterpret_cast<const uint4*>(shared)[other];
}

enum BarrierFault {
    EXIT_BEFORE_BARRIER,
    DIVERGED_WARP,
    PAST_THE_END,
    COPY_PAST_THE_END,
    MISALIGNED
};

__global__ void bad_barrier(int fault) {
    COLM_SHARED(shared);
    const int thread = threadIdx.x;
    uint32_t matrices[4];
    switch (fault) {
        case EXIT_BEFORE_BARRIER:
            if (thread < 64) return;
            __syncthreads();
            return;
        case DIVERGED_WARP:
            if (thread % 32 < 16) {
                __syncwarp();
            } else {
                __shfl_xor_sync(colm::ALL_LANES, thread, 1);
            }
            return;
        case PAST_THE_END:
            if (thread == 5) shared[16 * THREADS] = 1;
            return;
        case COPY_PAST_THE_END: colm::cp_async16(shared + 16 * (thread + 1), shared, false); return;
        case MISALIGNED: colm::ldmatrix_x4(matrices, shared + 8 * (thread % 32)); return;
    }
}

}  // namespace

extern "C" int twin_copy(int fault, const __half* from, __half* to) {
    return colm::launch(copy, 1, THREADS, 16 * THREADS, nullptr, fault, from, to);
}

extern "C" int twin_bad_barrier(int fault) {
    return colm::launch(bad_barrier, 1, THREADS, 16 * THREADS, nullptr, fault);
}
