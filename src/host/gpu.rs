//! What the kernels of a GPU ask of a model, told before anything runs.

use anyhow::{bail, Context, Result};
use candle_core::{DType, Device};
use colm_checkpoint::ColmConfig;

/// Positions per block that the kernels and the engine both have.
const BLOCK_SIZES: [usize; 2] = [16, 32];

/// Refuses the first `k` chains with weights of `dtype` on `device`, if that is a GPU whose kernels do not
/// take them.
pub fn check(config: &ColmConfig, k: usize, device: &Device, dtype: DType) -> Result<()> {
    if !colm_kernels::is_gpu(device, dtype) {
        return Ok(());
    }
    let widths = (0..k).flat_map(|i| {
        let name = |field: &str| format!("{field} of chain {}", i + 1);
        [
            (name("hidden_size"), config.hidden.of(i)),
            (name("intermediate_size"), config.intermediate.of(i)),
        ]
    });
    colm_kernels::check_gpu(dtype, config.head_dim, k, widths)
        .context("this model does not run on the GPU; --cpu runs it on the CPU")
}

/// Refuses blocks of so many positions on `device`, if that is a GPU.
pub fn check_block_size(block_size: usize, device: &Device) -> Result<()> {
    if device.is_cuda() && !BLOCK_SIZES.contains(&block_size) {
        bail!("a KV block of {block_size} positions on a GPU; expected 16 or 32");
    }
    Ok(())
}
