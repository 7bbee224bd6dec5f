// A wide tile: 128 rows of a chain by 128 columns of its weights (or 64 of W and 64 of U), on the
// tensor cores, for prompts.
//
// A *stage* is what a thread block multiplies per step: some inputs of 128 rows of x and of 128
// rows of the weights, in shared memory. `WideSource` copies stages there. It handles chains, row
// maps and edges, and fills in zeros beyond the edges. An accumulator class multiplies stages with
// one kind of instruction and defines the layout of a stage; it is independent of chains. There are
// MmaSums for every GPU and WgmmaSums for Hopper. `write_wide` is the epilogue.
//
// An accumulator class has these members:
//
// - Stage: a StageLayout.
// - STAGES: the number of stages in shared memory.
// - sums[HEIGHT][WIDTH][4]: matrices [16, 8] in the layout of mma_m16n8k16.
// - row_of(i): the first row of the matrices sums[i].
// - first_column(): the first column of the calling warp.
// - arrive(): called after a thread has waited for its copies.
// - multiply(stage): adds the products of a stage; may return before it is done.
// - finish(): waits until `multiply` is done.
#pragma once

#include "chain_linear_common.cuh"
#include "vector.cuh"

namespace colm {

// A stage of DEPTH inputs: rows of 16-byte chunks, first those of x, then those of the weights. The
// chunks of a row are permuted so that 8 rows read at once are in different banks. For rows of 128
// bytes this is the 128-byte swizzle of the hardware.
template <int DEPTH_>
struct StageLayout {
    static constexpr int DEPTH = DEPTH_;
    static constexpr int CHUNKS = DEPTH / VECTOR;
    static constexpr int X_BYTES = WIDE_ROWS * DEPTH * 2;
    static constexpr int BYTES = X_BYTES + WIDE_COLUMNS * DEPTH * 2;

    __device__ static __forceinline__ int offset(int row, int chunk) {
        return row * (CHUNKS * 16) + ((chunk ^ (row * CHUNKS / 8 % CHUNKS)) * 16);
    }
};

// Copies the stages of a tile in order. Each thread copies one chunk, always at the same place in a
// row, of some rows of x and as many of the weights.
template <class T, bool GATED, class Stage>
class WideSource {
  public:
    __device__ WideSource(const ColmChainLinear& linear, const ColmLinearProduct& product,
                          int first_row, int first_output)
        : linear_(linear), chain_(product.chain), first_row_(first_row) {
        const int inputs = inputs_of(linear, chain_);
#pragma unroll
        for (int copy = 0; copy < COPIES; ++copy) {
            weight_[copy] = weight_row(product, first_output, row_of(copy), inputs);
        }
        enter(0);
    }

    // The number of stages of the tile. Every chain begins a new stage.
    __device__ int stages() const {
        int stages = 0;
        for (int earlier = 0; earlier <= chain_; ++earlier) {
            stages += (linear_.inputs[earlier].width + Stage::DEPTH - 1) / Stage::DEPTH;
        }
        return stages;
    }

    // Starts the copy of the next stage.
    __device__ void copy_next(unsigned char* stage) {
        const bool inside = depth_ + chunk() * VECTOR < width_;
#pragma unroll
        for (int copy = 0; copy < COPIES; ++copy) {
            const int to = Stage::offset(row_of(copy), chunk());
            cp_async16(stage + to, x_[copy], inside && (x_rows_ >> copy & 1));
            cp_async16(stage + Stage::X_BYTES + to, weight_[copy],
                       inside && (weight_rows_ >> copy & 1));
            x_[copy] += Stage::DEPTH;
            weight_[copy] += Stage::DEPTH;
        }
        depth_ += Stage::DEPTH;
        if (depth_ >= width_ && earlier_ < chain_) enter(earlier_ + 1);
    }

  private:
    static constexpr int ROWS_PER_COPY = LINEAR_THREADS / Stage::CHUNKS;
    static constexpr int COPIES = WIDE_ROWS / ROWS_PER_COPY;
    static_assert(WIDE_ROWS == WIDE_COLUMNS, "x and the weights are copied alike");

    __device__ static int chunk() { return threadIdx.x % Stage::CHUNKS; }
    __device__ static int row_of(int copy) {
        return threadIdx.x / Stage::CHUNKS + copy * ROWS_PER_COPY;
    }

    // The first chunk of this thread in a column of the tile. The columns of a gated layer
    // alternate between 8 outputs of W and the same 8 of U, so that one thread gets both sums of an
    // output.
    __device__ const T* weight_row(const ColmLinearProduct& product, int first_output, int column,
                                   int inputs) {
        int output = first_output + column;
        const void* weight = product.weight;
        if constexpr (GATED) {
            output = first_output + column / 16 * 8 + column % 8;
            if (column / 8 % 2 == 1) weight = product.up;
        }
        const int copy = column / ROWS_PER_COPY;
        if (output < product.outputs) {
            weight_rows_ |= 1 << copy;
        } else {
            output = 0;
        }
        return static_cast<const T*>(weight) + static_cast<size_t>(output) * inputs +
               chunk() * VECTOR;
    }

    // Continues with the x of chain `earlier`. Its weights follow those of the previous chain.
    __device__ void enter(int earlier) {
        const ColmLinearInput& own = linear_.inputs[chain_];
        const ColmLinearInput& input = linear_.inputs[earlier];
#pragma unroll
        for (int copy = 0; copy < COPIES; ++copy) {
            // The last stage of the previous chain may have passed its width.
            weight_[copy] -= depth_ - width_;
            const int row = first_row_ + row_of(copy);
            int earlier_row = 0;
            if (row < own.rows) {
                x_rows_ |= 1 << copy;
                earlier_row = row_in(own, chain_, earlier, row);
            }
            x_[copy] = static_cast<const T*>(input.x) +
                       static_cast<size_t>(earlier_row) * input.width + chunk() * VECTOR;
        }
        earlier_ = earlier;
        depth_ = 0;
        width_ = input.width;
    }

    const ColmChainLinear& linear_;
    const int chain_;
    const int first_row_;
    const T* x_[COPIES];
    const T* weight_[COPIES];
    // Bit `copy` says whether that row of x or of the weights exists.
    unsigned x_rows_ = 0;
    unsigned weight_rows_ = 0;
    // The chain that is read, the inputs read so far, and its width.
    int earlier_ = 0;
    int depth_ = 0;
    int width_ = 0;
};

// Transposes among the four lanes that share a row of a matrix: v[s] of lane t becomes v[t] of lane
// s. It converts pairs of four matrices to 16 bytes of one matrix, and back.
__device__ __forceinline__ void transpose_quad(uint32_t (&v)[4]) {
#pragma unroll
    for (int distance = 1; distance <= 2; distance *= 2) {
        const bool upper = threadIdx.x & distance;
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
            const int low = distance == 1 ? 2 * pair : pair;
            const int high = low + distance;
            const uint32_t received =
                __shfl_xor_sync(ALL_LANES, upper ? v[low] : v[high], distance);
            v[low] = upper ? received : v[low];
            v[high] = upper ? v[high] : received;
        }
    }
}

// The epilogue. Each thread writes 8 outputs of a row per access.
template <class T, bool GATED, class Sums>
__device__ void write_wide(const Sums& tile, const ColmLinearProduct& product, int rows,
                           int first_row, int first_output) {
    constexpr int MATRICES_PER_OUTPUT = GATED ? 2 : 1;
    const int lane = threadIdx.x % WARP;
    const int output_of_warp = first_output + Sums::first_column() / MATRICES_PER_OUTPUT;
#pragma unroll
    for (int group = 0; group < Sums::WIDTH / MATRICES_PER_OUTPUT; group += 4) {
        // This lane holds the sums of outputs `pairs`, and reads and writes those from `chunk` on.
        const int pairs = output_of_warp + group * 8 + lane % 4 * 2;
        const int chunk = output_of_warp + group * 8 + lane % 4 * 8;
        float bias[4][2], up_bias[4][2];
#pragma unroll
        for (int matrix = 0; matrix < 4; ++matrix) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int output = pairs + matrix * 8 + half;
                const bool exists = output < product.outputs;
                bias[matrix][half] = exists ? bias_at<T>(product.bias, output) : 0.0f;
                up_bias[matrix][half] =
                    exists && GATED ? bias_at<T>(product.up_bias, output) : 0.0f;
            }
        }
#pragma unroll
        for (int i = 0; i < 2 * Sums::HEIGHT; ++i) {
            const int row = first_row + Sums::row_of(i / 2) + i % 2 * 8 + lane / 4;
            const bool exists = row < rows && chunk < product.outputs;
            const size_t at = static_cast<size_t>(row) * product.outputs + chunk;
            uint32_t residual[4] = {};
            if (product.residual != nullptr) {
                if (exists) {
                    const uint4 eight = load_vector(static_cast<const T*>(product.residual) + at);
                    residual[0] = eight.x;
                    residual[1] = eight.y;
                    residual[2] = eight.z;
                    residual[3] = eight.w;
                }
                transpose_quad(residual);
            }
            uint32_t outputs[4];
#pragma unroll
            for (int matrix = 0; matrix < 4; ++matrix) {
                const float2 plus = unpack2<T>(residual[matrix]);
                const int column = (group + matrix) * MATRICES_PER_OUTPUT;
                float values[2];
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int number = i % 2 * 2 + half;
                    values[half] = tile.sums[i / 2][column][number] + bias[matrix][half];
                    if constexpr (GATED) {
                        const float up =
                            tile.sums[i / 2][column + 1][number] + up_bias[matrix][half];
                        values[half] = silu(values[half]) * up;
                    }
                }
                outputs[matrix] = pack2<T>(values[0] + plus.x, values[1] + plus.y);
            }
            transpose_quad(outputs);
            if (exists) {
                store_vector(static_cast<T*>(product.y) + at,
                             make_uint4(outputs[0], outputs[1], outputs[2], outputs[3]));
            }
        }
    }
}

// Computes the tile of `product` at `first_row` and `first_output`.
template <class T, bool GATED, class Sums>
__device__ void wide_tile(const ColmChainLinear& linear, const ColmLinearProduct& product,
                          int first_row, int first_output, unsigned char* shared) {
    using Stage = typename Sums::Stage;
    constexpr int STAGES = Sums::STAGES;
    WideSource<T, GATED, Stage> source(linear, product, first_row, first_output);
    const int stages = source.stages();
    // Every iteration commits a group, which is empty at the end, so that the latest STAGES - 2
    // groups are always those of the stages after the current one.
    for (int stage = 0; stage < STAGES - 1; ++stage) {
        if (stage < stages) source.copy_next(shared + stage * Stage::BYTES);
        cp_async_commit();
    }
    Sums tile;
    for (int stage = 0; stage < stages; ++stage) {
        cp_async_wait<STAGES - 2>();
        Sums::arrive();
        tile.finish();
        // The copies of all threads have arrived, and all threads have multiplied the previous
        // stage, whose memory is filled next. The products are started first: the tensor cores
        // would wait for the instructions of the copy, which has stages of time.
        __syncthreads();
        tile.multiply(shared + stage % STAGES * Stage::BYTES);
        const int next = stage + STAGES - 1;
        if (next < stages) source.copy_next(shared + next % STAGES * Stage::BYTES);
        cp_async_commit();
    }
    tile.finish();
    write_wide<T, GATED>(tile, product, linear.inputs[product.chain].rows, first_row, first_output);
}

}  // namespace colm
