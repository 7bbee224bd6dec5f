//! Checks of what the GPU kernels require of a model, before anything runs.

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use colm_checkpoint::{ChainCount, ColmConfig};

use crate::error::Error;

/// Positions per KV block that both the kernels and the engine support.
const BLOCK_SIZES: [usize; 2] = [16, 32];

/// Fails if `device` is a GPU whose kernels do not support the first `k` chains with weights of `dtype`.
pub fn check(config: &ColmConfig, k: ChainCount, device: &Device, dtype: DType) -> Result<()> {
    if !colm_kernels::uses_gpu_kernels(device, dtype) {
        return Ok(());
    }
    let k = k.get();
    let heads = |i| (config.heads.of(i), config.kv_heads.of(config.kv_owner(i)));
    let heads: Vec<_> = (0..k).map(heads).collect();
    let widths = (0..k).flat_map(|i| {
        let name = |field: &str| format!("{field} of chain {}", i + 1);
        [
            (name("hidden_size"), config.hidden.of(i)),
            (name("intermediate_size"), config.intermediate.of(i)),
        ]
    });
    colm_kernels::check_gpu_limits(dtype, config.head_dim, &heads, widths)
        .context("this model does not run on the GPU; `cpu` runs it on the CPU")
}

/// Fails if `device` is a GPU whose kernels do not support KV blocks of `block_size` positions.
pub fn check_block_size(block_size: usize, device: &Device) -> Result<(), Error> {
    if device.is_cuda() && !BLOCK_SIZES.contains(&block_size) {
        return Err(Error::InvalidOption {
            option: "block_size",
            value: block_size.to_string(),
            problem: "expected 16 or 32 on a GPU".into(),
        });
    }
    Ok(())
}
