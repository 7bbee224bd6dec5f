//! The same functions on a GPU: a step's rows, ranges and tables as `colm-cuda` takes them.
//!
//! With the feature `twin` all of this runs on the CPU twin instead, on tensors in host memory that are in
//! bf16 or f16; those in f32 stay with the kernels of the CPU.

mod attention;
mod kv_blocks;
mod linear;
mod norm;
mod remembered;
mod rope;

pub(crate) use attention::attend;
pub(crate) use kv_blocks::{write, write_turned};
pub(crate) use linear::{chain_linear, GpuBlock};
pub(crate) use norm::chain_rms_norm;
pub(crate) use rope::{turn, TablesOnGpus};

use candle_core::{Result, Tensor};

// The kernels themselves: without a GPU, as threads on the CPU.
#[cfg(feature = "twin")]
extern crate colm_kernels_twin as _;

// A build without them has to know it as well.
const _: () = assert!(crate::place::GPU_CHAINS == colm_cuda::ffi::linear::MAX_CHAINS);

/// Whether `tensor` is where these kernels run.
pub(crate) fn has(tensor: &Tensor) -> bool {
    crate::place::is_gpu(tensor.device(), tensor.dtype())
}

/// Numbers that count something, as the kernels take them.
fn as_u32(numbers: impl Iterator<Item = usize>) -> Result<Vec<u32>> {
    numbers.map(|number| u32::try_from(number).map_err(candle_core::Error::wrap)).collect()
}
