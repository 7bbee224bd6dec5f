// The state of a launch of the twin: its fibers, warps and shared memory. See cuda_twin.h.
#pragma once

#include <ucontext.h>

#include <csetjmp>
#include <memory>
#include <string>
#include <vector>

#include "cuda_twin.h"

namespace colm::twin {

constexpr int WARP = 32;
constexpr unsigned MAX_THREADS = 1024;
constexpr size_t MAX_SHARED = 227 * 1024;  // compute capability 9.0
constexpr size_t STACK = 128 * 1024;
constexpr size_t MARGIN = 4096;           // after shared memory, to detect stores past its end
constexpr unsigned char NAN_BYTE = 0xff;  // NaN in bf16, f16 and f32

struct Copy {
    void* shared;
    const void* global;
    bool valid;
};

enum class State { Runs, WaitsForWarp, WaitsForBlock, Returned };

struct Fiber {
    std::unique_ptr<unsigned char[]> stack{new unsigned char[STACK]};
    ucontext_t start;
    jmp_buf at;
    bool started;
    State state;
    uint3 index;
    int warp, lane;
    // Incomplete copies: the committed groups, oldest first, and those not yet committed.
    std::vector<std::vector<Copy>> groups;
    std::vector<Copy> uncommitted;
};

struct Warp {
    LaneData data[WARP];
    const char* name;
    int arrived;
};

struct Launch {
    std::vector<std::unique_ptr<Fiber>> fibers;  // reused by later launches
    std::vector<Warp> warps;
    std::vector<unsigned char> memory;
    unsigned char* shared;
    size_t shared_bytes;
    unsigned threads;
    unsigned arrived;  // at the block's barrier
    Fiber* running = nullptr;
    jmp_buf scheduler;
    const std::function<void()>* kernel;
    bool failed;
    std::string fault;
    bool descending = false;
};

// The launch of this CPU thread.
extern thread_local Launch now;

}  // namespace colm::twin
