// A wide tile: 128 rows of a chain times 128 columns of its weights (or 64 of W and 64 of U), by
// the tensor cores, for prompts.
//
// What a block multiplies per step, a *stage*, is some columns of 128 rows of x and the same of 128
// rows of the weights, in shared memory. `WideSource` copies stages there: it knows chains, places
// and edges, and fills with zeros what lies beyond them. A class of sums multiplies a stage by one
// kind of instruction and says how a stage is laid out for it; it knows nothing of chains. There
// are MmaSums for every GPU and WgmmaSums for Hopper. `write_wide` makes outputs of the sums.
//
// Sums have
//     Stage                                   a StageLayout
//     STAGES                                  how many are in shared memory
//     sums[HEIGHT][WIDTH][4]                  matrices [16, 8] as mma_m16n8k16 leaves them, the
//     first row_of(i), first_column()                 row of matrix i, and the first column of the
//     thread's warp static arrive()                         after a thread has waited for its
//     copies multiply(stage)                         may return before it is done finish() waits
//     for that
#pragma once

#include "chain_linear_common.cuh"
#include "vector.cuh"

namespace colm {

// A stage of DEPTH columns: rows of 16-byte chunks, first those of x, then those of the weights.
// The chunks of a row are permuted so that 8 rows that are read at once lie in different banks; if
// a row is 128 bytes, this is the 128-byte swizzle of the hardware.
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

// Copies the stages of a tile in order. Every thread copies one chunk, always the same, of some
// rows of x and as many of the weights.
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

    // How many stages the tile has: every chain begins one.
    __device__ int stages() const {
        int stages = 0;
        for (int lower = 0; lower <= chain_; ++lower) {
            stages += (linear_.inputs[lower].width + Stage::DEPTH - 1) / Stage::DEPTH;
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
        if (depth_ >= width_ && lower_ < chain_) enter(lower_ + 1);
    }

  private:
    static constexpr int ROWS_PER_COPY = LINEAR_THREADS / Stage::CHUNKS;
    static constexpr int COPIES = WIDE_ROWS / ROWS_PER_COPY;
    static_assert(WIDE_ROWS == WIDE_COLUMNS, "x and the weights are copied alike");

    __device__ static int chunk() { return threadIdx.x % Stage::CHUNKS; }
    __device__ static int row_of(int copy) {
        return threadIdx.x / Stage::CHUNKS + copy * ROWS_PER_COPY;
    }

    // Where this thread's chunk of a column of the tile begins: columns of a gated layer are 8
    // outputs of W, the same 8 of U, the next 8 of W and so on, so that one thread gets both sums
    // of an output.
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

    // Goes on to the rows of x of chain `lower`; its columns of the weights follow those before.
    __device__ void enter(int lower) {
        const ColmLinearInput& own = linear_.inputs[chain_];
        const ColmLinearInput& input = linear_.inputs[lower];
#pragma unroll
        for (int copy = 0; copy < COPIES; ++copy) {
            // The last stage of the chain before may have gone beyond its width.
            weight_[copy] -= depth_ - width_;
            const int row = first_row_ + row_of(copy);
            int place = 0;
            if (row < own.rows) {
                x_rows_ |= 1 << copy;
                place = place_of(own, chain_, lower, row);
            }
            x_[copy] = static_cast<const T*>(input.x) + static_cast<size_t>(place) * input.width +
                       chunk() * VECTOR;
        }
        lower_ = lower;
        depth_ = 0;
        width_ = input.width;
    }

    const ColmChainLinear& linear_;
    const int chain_;
    const int first_row_;
    const T* x_[COPIES];
    const T* weight_[COPIES];
    // Bit `copy`: whether that row of x or of the weights exists.
    unsigned x_rows_ = 0;
    unsigned weight_rows_ = 0;
    // The chain that is read, how far, and how wide it is.
    int lower_ = 0;
    int depth_ = 0;
    int width_ = 0;
};

// Among the four lanes that share a row of a matrix: lane t's v[s] becomes lane s's v[t]. So pairs
// of four matrices become 16 bytes of one, and back.
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

// Makes outputs of the sums and writes them, 8 outputs of a row per thread and access.
template <class T, bool GATED, class Sums>
__device__ void write_wide(const Sums& tile, const ColmLinearProduct& product, int rows,
                           int first_row, int first_output) {
    constexpr int MATRICES_PER_OUTPUT = GATED ? 2 : 1;
    const int lane = threadIdx.x % WARP;
    const int output_of_warp = first_output + Sums::first_column() / MATRICES_PER_OUTPUT;
#pragma unroll
    for (int group = 0; group < Sums::WIDTH / MATRICES_PER_OUTPUT; group += 4) {
        // This lane sums up the outputs `pairs`, and reads and writes those from `chunk` on.
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

// The tile of `product` whose first row and output are given.
template <class T, bool GATED, class Sums>
__device__ void wide_tile(const ColmChainLinear& linear, const ColmLinearProduct& product,
                          int first_row, int first_output, unsigned char* shared) {
    using Stage = typename Sums::Stage;
    constexpr int STAGES = Sums::STAGES;
    WideSource<T, GATED, Stage> source(linear, product, first_row, first_output);
    const int stages = source.stages();
    // Every turn commits a group, empty at the end, so that the latest STAGES - 2 groups are those
    // of the stages after the one that is multiplied.
    for (int stage = 0; stage < STAGES - 1; ++stage) {
        if (stage < stages) source.copy_next(shared + stage * Stage::BYTES);
        cp_async_commit();
    }
    Sums tile;
    for (int stage = 0; stage < stages; ++stage) {
        cp_async_wait<STAGES - 2>();
        Sums::arrive();
        tile.finish();
        // The copies of all threads have arrived, and all have multiplied the stage before, whose
        // place is filled now.
        __syncthreads();
        const int next = stage + STAGES - 1;
        if (next < stages) source.copy_next(shared + next % STAGES * Stage::BYTES);
        cp_async_commit();
        tile.multiply(shared + stage % STAGES * Stage::BYTES);
    }
    tile.finish();
    write_wide<T, GATED>(tile, product, linear.inputs[product.chain].rows, first_row, first_output);
}

}  // namespace colm
