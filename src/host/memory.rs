//! The memory of the machine, and whether a model fits into it.

use candle_core::Device;
use mistralrs_core::MemoryUsage;
use sysinfo::System;
use thiserror::Error;

const MIB: usize = 1024 * 1024;

/// A model and its KV cache need more memory than is available.
#[derive(Debug, Error)]
#[error(
    "the weights need {weights} MiB and the KV cache {kv_cache} MiB, and {available} MiB are available; \
     expected a smaller `kv_cache_mib` or `max_chains`, `dtype` bf16, or a `quantization`"
)]
pub struct MemoryTooSmall {
    weights: usize,
    kv_cache: usize,
    available: usize,
}

/// Fails if `device` cannot hold `weights` and `kv_cache` bytes.
pub fn check(weights: usize, kv_cache: usize, device: &Device) -> Result<(), MemoryTooSmall> {
    let available = available(device);
    if weights.saturating_add(kv_cache) <= available {
        return Ok(());
    }
    let [weights, kv_cache, available] = [weights, kv_cache, available].map(|bytes| bytes / MIB);
    Err(MemoryTooSmall { weights, kv_cache, available })
}

/// The memory of this machine, or of this process's container if that has less.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct MachineMemory {
    /// Bytes, in use or not.
    pub total: usize,
    /// Bytes that are free or can be freed.
    pub available: usize,
}

impl MachineMemory {
    /// The memory as it is now.
    pub fn now() -> Self {
        let mut system = System::new();
        system.refresh_memory();
        let limits = system.cgroup_limits();
        let (limit, unused) = limits.map_or((u64::MAX, u64::MAX), |limits| {
            (limits.total_memory, limits.total_memory.saturating_sub(limits.rss))
        });
        Self {
            total: limit.min(system.total_memory()) as usize,
            // Not `free_memory`, which counts cached files as used.
            available: unused.min(system.available_memory()) as usize,
        }
    }
}

/// Bytes of memory that are free or can be freed, on `device`.
fn available(device: &Device) -> usize {
    if device.is_cpu() {
        return MachineMemory::now().available;
    }
    // If the free memory of a GPU is unknown, it is not checked.
    MemoryUsage.get_memory_available(device).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_does_not_fit_is_refused() {
        check(1, 1, &Device::Cpu).unwrap();
        let error = check(1 << 50, 1 << 20, &Device::Cpu).unwrap_err().to_string();
        assert!(
            error.starts_with("the weights need 1073741824 MiB and the KV cache 1 MiB"),
            "{error}"
        );
        assert!(check(usize::MAX, usize::MAX, &Device::Cpu).is_err());
    }

    #[test]
    fn what_is_available_is_a_part_of_the_total() {
        let MachineMemory { total, available } = MachineMemory::now();
        assert!(available > MIB && available <= total, "{available} of {total}");
    }
}
