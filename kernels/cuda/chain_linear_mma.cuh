// The accumulators of a wide tile with mma.sync, which every GPU since Ampere has.
#pragma once

#include "chain_linear_wide.cuh"

namespace colm {

// The 2 x 2 warps have 64 rows and 64 columns each.
template <class T>
struct MmaSums {
    using Stage = StageLayout<32>;
    static constexpr int STAGES = 4;
    static constexpr int HEIGHT = 4;
    static constexpr int WIDTH = 8;

    float sums[HEIGHT][WIDTH][4] = {};

    __device__ static int row_of(int i) { return threadIdx.x / WARP / 2 * (HEIGHT * 16) + i * 16; }
    __device__ static int first_column() { return threadIdx.x / WARP % 2 * (WIDTH * 8); }

    __device__ static void arrive() {}
    __device__ void finish() {}

    __device__ void multiply(const unsigned char* stage) {
        const int lane = threadIdx.x % WARP;
        const unsigned char* weights = stage + Stage::X_BYTES;
#pragma unroll
        for (int depth = 0; depth < Stage::CHUNKS; depth += 2) {
            uint32_t x[HEIGHT][4];
#pragma unroll
            for (int i = 0; i < HEIGHT; ++i) {
                const int row = row_of(i) + lane % 16;
                ldmatrix_x4(x[i], stage + Stage::offset(row, depth + lane / 16));
            }
            uint32_t weight[WIDTH][2];
#pragma unroll
            for (int j = 0; j < WIDTH; j += 2) {
                uint32_t two[4];
                const int column = first_column() + j * 8 + lane / 16 * 8 + lane % 8;
                ldmatrix_x4(two, weights + Stage::offset(column, depth + lane / 8 % 2));
                weight[j][0] = two[0];
                weight[j][1] = two[1];
                weight[j + 1][0] = two[2];
                weight[j + 1][1] = two[3];
            }
#pragma unroll
            for (int i = 0; i < HEIGHT; ++i) {
#pragma unroll
                for (int j = 0; j < WIDTH; ++j) mma_m16n8k16<T>(sums[i][j], x[i], weight[j]);
            }
        }
    }
};

}  // namespace colm
