// cp.async: copies that arrive when the issuing thread waits for them. See cuda_twin.h.
#include "launch_state.h"

namespace colm::twin {

void check_shared16(const char* name, const void* shared) {
    const auto address = reinterpret_cast<uintptr_t>(shared);
    const auto start = reinterpret_cast<uintptr_t>(now.shared);
    if (address < start || address + 16 > start + now.shared_bytes) {
        fail("%s at %td of %zu bytes of shared memory", name,
             static_cast<const unsigned char*>(shared) - now.shared, now.shared_bytes);
    }
    if (address % 16 != 0) fail("%s at an address that is not a multiple of 16", name);
}

void cp_async16(void* shared, const void* global, bool valid) {
    check_shared16("cp.async", shared);
    if (valid && reinterpret_cast<uintptr_t>(global) % 16 != 0) {
        fail("cp.async from an address that is not a multiple of 16");
    }
    std::memset(shared, NAN_BYTE, 16);
    now.running->uncommitted.push_back({shared, global, valid});
}

void cp_async_commit() {
    Fiber& fiber = *now.running;
    fiber.groups.push_back(std::move(fiber.uncommitted));
    fiber.uncommitted.clear();
}

void cp_async_wait(int pending) {
    auto& groups = now.running->groups;
    while (groups.size() > static_cast<size_t>(pending)) {
        for (const Copy& copy : groups.front()) {
            if (copy.valid) {
                std::memcpy(copy.shared, copy.global, 16);
            } else {
                std::memset(copy.shared, 0, 16);
            }
        }
        groups.erase(groups.begin());
    }
}

}  // namespace colm::twin
