// The blocks of a launch, their fibers and barriers. See cuda_twin.h.
#include <cstdarg>
#include <cstdio>

#include "launch_state.h"

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;

namespace colm::twin {

thread_local Launch now;

namespace {

void enter() {
    (*now.kernel)();
    now.running->state = State::Returned;
    _longjmp(now.scheduler, 1);
}

// Yields to the scheduler until this fiber is resumed.
void wait(State state) {
    Fiber& fiber = *now.running;
    fiber.state = state;
    if (_setjmp(fiber.at) == 0) _longjmp(now.scheduler, 1);
}

void resume(Fiber& fiber) {
    now.running = &fiber;
    threadIdx = fiber.index;
    if (_setjmp(now.scheduler) == 0) {
        if (fiber.started) _longjmp(fiber.at, 1);
        fiber.started = true;
        setcontext(&fiber.start);
    }
    now.running = nullptr;
}

void start_block() {
    now.arrived = 0;
    now.failed = false;
    for (Warp& warp : now.warps) warp.arrived = 0;
    std::fill(now.memory.begin(), now.memory.end(), NAN_BYTE);
    for (unsigned thread = 0; thread < now.threads; ++thread) {
        Fiber& fiber = *now.fibers[thread];
        fiber.started = false;
        fiber.state = State::Runs;
        fiber.index = {thread % blockDim.x, thread / blockDim.x % blockDim.y,
                       thread / blockDim.x / blockDim.y};
        fiber.warp = thread / WARP;
        fiber.lane = thread % WARP;
        fiber.groups.clear();
        fiber.uncommitted.clear();
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = fiber.stack.get();
        fiber.start.uc_stack.ss_size = STACK;
        fiber.start.uc_link = nullptr;
        makecontext(&fiber.start, enter, 0);
    }
}

// Runs the warp's lanes until all of them wait for the block or have returned. Returns whether any
// lane ran.
bool run_warp(unsigned warp) {
    bool any = false;
    for (bool again = true; again;) {
        again = false;
        for (int i = 0; i < WARP && !now.failed; ++i) {
            const int lane = now.descending ? WARP - 1 - i : i;
            Fiber& fiber = *now.fibers[warp * WARP + lane];
            if (fiber.state != State::Runs) continue;
            resume(fiber);
            any = again = true;
        }
    }
    return any;
}

void set_fault(const char* what, va_list arguments) {
    char text[512];
    std::vsnprintf(text, sizeof text, what, arguments);
    char place[128];
    std::snprintf(place, sizeof place, "block (%u, %u, %u): ", blockIdx.x, blockIdx.y, blockIdx.z);
    now.fault = std::string(place) + text;
    now.failed = true;
}

[[gnu::format(printf, 1, 2)]] void fail_block(const char* what, ...) {
    va_list arguments;
    va_start(arguments, what);
    set_fault(what, arguments);
    va_end(arguments);
}

void report_deadlock() {
    unsigned block = 0, warp = 0, returned = 0;
    const char* name = "";
    for (unsigned thread = 0; thread < now.threads; ++thread) {
        const Fiber& fiber = *now.fibers[thread];
        block += fiber.state == State::WaitsForBlock;
        returned += fiber.state == State::Returned;
        if (fiber.state == State::WaitsForWarp) {
            ++warp;
            name = now.warps[fiber.warp].name;
        }
    }
    fail_block(
        "deadlock: %u threads wait at __syncthreads, %u for their warp%s%s, %u have returned",
        block, warp, warp ? " at " : "", name, returned);
}

void run_block() {
    start_block();
    const unsigned warps = now.threads / WARP;
    for (;;) {
        bool any = false;
        for (unsigned i = 0; i < warps && !now.failed; ++i) {
            any |= run_warp(now.descending ? warps - 1 - i : i);
        }
        if (now.failed) return;
        if (!any) break;
    }
    for (unsigned thread = 0; thread < now.threads; ++thread) {
        if (now.fibers[thread]->state != State::Returned) return report_deadlock();
    }
    const unsigned char* end = now.shared + now.shared_bytes;
    if (std::any_of(end, end + MARGIN, [](unsigned char byte) { return byte != NAN_BYTE; })) {
        fail_block("a store went past the end of the %zu bytes of shared memory", now.shared_bytes);
    }
}

int launch_error(const char* why) {
    now.fault = why;
    return TWIN_FAULT;
}

}  // namespace

int run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel) {
    gridDim = grid;
    blockDim = block;
    now.threads = block.x * block.y * block.z;
    if (now.threads == 0 || now.threads > MAX_THREADS || now.threads % WARP != 0) {
        return launch_error("a block must have 32 to 1024 threads, in whole warps");
    }
    if (shared_bytes > MAX_SHARED)
        return launch_error("a block has at most 227 KiB of shared memory");
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return launch_error("the grid is empty");
    if (grid.y > 65535 || grid.z > 65535)
        return launch_error("grid.y and grid.z are at most 65535");
    while (now.fibers.size() < now.threads) now.fibers.push_back(std::make_unique<Fiber>());
    now.warps.resize(now.threads / WARP);
    now.memory.resize(shared_bytes + MARGIN + 128);
    now.shared_bytes = shared_bytes;
    const uintptr_t start = reinterpret_cast<uintptr_t>(now.memory.data());
    now.shared = now.memory.data() + (128 - start % 128) % 128;
    now.memory.resize(now.shared - now.memory.data() + shared_bytes + MARGIN);
    now.kernel = &kernel;
    for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z) {
        for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
            for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
                run_block();
                if (now.failed) return TWIN_FAULT;
            }
        }
    }
    return 0;
}

const char* fault() { return now.fault.c_str(); }

void fail(const char* what, ...) {
    va_list arguments;
    va_start(arguments, what);
    set_fault(what, arguments);
    va_end(arguments);
    _longjmp(now.scheduler, 1);
}

LaneData& lane_data() { return now.warps[now.running->warp].data[now.running->lane]; }

int lane() { return now.running->lane; }

void sync_warp(const char* name, void (*act)(LaneData* lanes)) {
    Warp& warp = now.warps[now.running->warp];
    if (warp.arrived > 0 && std::strcmp(warp.name, name) != 0) {
        fail("warp %d diverged: lane %d is at %s, others wait at %s", now.running->warp,
             now.running->lane, name, warp.name);
    }
    warp.name = name;
    if (++warp.arrived < WARP) return wait(State::WaitsForWarp);
    warp.arrived = 0;
    if (act) act(warp.data);
    for (int lane = 0; lane < WARP; ++lane) {
        now.fibers[now.running->warp * WARP + lane]->state = State::Runs;
    }
}

void sync_block() {
    if (++now.arrived < now.threads) return wait(State::WaitsForBlock);
    now.arrived = 0;
    for (unsigned thread = 0; thread < now.threads; ++thread) {
        now.fibers[thread]->state = State::Runs;
    }
}

unsigned char* shared_memory() { return now.shared; }

}  // namespace colm::twin

// Sets the order in which the fibers of this CPU thread run, from the next launch on: by ascending
// or by descending thread index. A race that is hidden in one order shows in the other.
extern "C" void twin_order(bool descending) { colm::twin::now.descending = descending; }
