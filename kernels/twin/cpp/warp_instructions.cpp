// Warp-wide instructions and the 16-bit formats. See cuda_twin.h.
#include "cuda_twin.h"

namespace colm::twin {
namespace {

constexpr int WARP = 32;

uint16_t element(const LaneData* lanes, int matrix, int row, int column) {
    uint16_t bits;
    std::memcpy(&bits, static_cast<const char*>(lanes[8 * matrix + row].address) + 2 * column, 2);
    return bits;
}

template <bool TRANSPOSED>
void load(LaneData* lanes) {
    for (int lane = 0; lane < WARP; ++lane) {
        for (int matrix = 0; matrix < 4; ++matrix) {
            const int outer = lane / 4, inner = 2 * (lane % 4);
            const uint16_t low = TRANSPOSED ? element(lanes, matrix, inner, outer)
                                            : element(lanes, matrix, outer, inner);
            const uint16_t high = TRANSPOSED ? element(lanes, matrix, inner + 1, outer)
                                             : element(lanes, matrix, outer, inner + 1);
            lanes[lane].words[matrix] = low | static_cast<uint32_t>(high) << 16;
        }
    }
}

// Words 0..4 of a lane are a, 4..6 b, 6..10 d, as in mma_m16n8k16.
template <float (*WIDEN)(uint16_t)>
void multiply(LaneData* lanes) {
    float a[16][16], b[16][8], d[16][8];
    for (int lane = 0; lane < WARP; ++lane) {
        const uint32_t* words = lanes[lane].words;
        const int g = lane / 4, t = lane % 4;
        for (int high = 0; high < 2; ++high) {
            const auto half = [&](int word) {
                return WIDEN(static_cast<uint16_t>(words[word] >> (16 * high)));
            };
            a[g][2 * t + high] = half(0);
            a[g + 8][2 * t + high] = half(1);
            a[g][2 * t + 8 + high] = half(2);
            a[g + 8][2 * t + 8 + high] = half(3);
            b[2 * t + high][g] = half(4);
            b[2 * t + 8 + high][g] = half(5);
        }
        for (int i = 0; i < 4; ++i) {
            d[g + i / 2 * 8][2 * t + i % 2] = __uint_as_float(words[6 + i]);
        }
    }
    for (int row = 0; row < 16; ++row) {
        for (int depth = 0; depth < 16; ++depth) {
            for (int column = 0; column < 8; ++column) {
                d[row][column] += a[row][depth] * b[depth][column];
            }
        }
    }
    for (int lane = 0; lane < WARP; ++lane) {
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; ++i) {
            lanes[lane].words[6 + i] = __float_as_uint(d[g + i / 2 * 8][2 * t + i % 2]);
        }
    }
}

void exchange(LaneData* lanes) {
    for (int lane = 0; lane < WARP; ++lane) {
        lanes[lane].words[2] = lanes[lanes[lane].words[1]].words[0];
    }
}

void collect(LaneData* lanes) {
    const bool any =
        std::any_of(lanes, lanes + WARP, [](const LaneData& lane) { return lane.words[0]; });
    for (int lane = 0; lane < WARP; ++lane) lanes[lane].words[1] = any;
}

void sync_multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                   void (*act)(LaneData*)) {
    LaneData& mine = lane_data();
    std::copy(a, a + 4, mine.words);
    std::copy(b, b + 2, mine.words + 4);
    std::memcpy(mine.words + 6, d, sizeof d);
    sync_warp("mma", act);
    std::memcpy(d, mine.words + 6, sizeof d);
}

}  // namespace

void load_matrices(const void* row, uint32_t (&matrices)[4], bool transposed) {
    check_shared16("ldmatrix", row);
    LaneData& mine = lane_data();
    mine.address = row;
    sync_warp(transposed ? "ldmatrix.x4.trans" : "ldmatrix.x4",
              transposed ? load<true> : load<false>);
    std::copy(mine.words, mine.words + 4, matrices);
}

uint32_t shuffle(unsigned lanes, uint32_t word, int source) {
    if (lanes != 0xffffffffu) fail("a shuffle in part of a warp is not emulated");
    LaneData& mine = lane_data();
    mine.words[0] = word;
    mine.words[1] = static_cast<uint32_t>(source);
    sync_warp("a shuffle", exchange);
    return mine.words[2];
}

bool any(unsigned lanes, bool holds) {
    if (lanes != 0xffffffffu) fail("a vote in part of a warp is not emulated");
    LaneData& mine = lane_data();
    mine.words[0] = holds;
    sync_warp("a vote", collect);
    return mine.words[1];
}

float widen_bf16(uint16_t bits) { return __uint_as_float(static_cast<uint32_t>(bits) << 16); }

uint16_t narrow_bf16(float x) {
    const uint32_t bits = __float_as_uint(x);
    if (std::isnan(x)) return 0x7fff;
    // Add half a unit of the last place, less one if it is even: ties go to even.
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float widen_f16(uint16_t bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
    const uint32_t rest = static_cast<uint32_t>(bits & 0x7fff) << 13;
    if (rest >= 0x7c00u << 13) return __uint_as_float(sign | 0x70000000 | rest);
    // The exponent bias of f32 is 112 larger. Scaling by 2^112 also converts subnormal numbers.
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(rest) * 0x1p112f));
}

uint16_t narrow_f16(float x) {
    if (std::isnan(x)) return 0x7fff;
    const uint16_t sign = static_cast<uint16_t>(__float_as_uint(x) >> 16 & 0x8000);
    const float size = std::fabs(x);
    if (size >= 65520.0f) return sign | 0x7c00;
    // Subnormal: a multiple of 2^-24. 1024 of them are the smallest normal number.
    if (size < 0x1p-14f) return sign | static_cast<uint16_t>(std::nearbyint(size * 0x1p24f));
    const uint32_t bits = __float_as_uint(size) - (112u << 23);
    return sign | static_cast<uint16_t>((bits + 0xfff + (bits >> 13 & 1)) >> 13);
}

}  // namespace colm::twin

namespace colm {

template <>
void mma_m16n8k16<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    twin::sync_multiply(d, a, b, twin::multiply<twin::widen_bf16>);
}

template <>
void mma_m16n8k16<__half>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    twin::sync_multiply(d, a, b, twin::multiply<twin::widen_f16>);
}

}  // namespace colm
