//! The same functions on a GPU: a step's rows, ranges and tables as `colm-cuda` takes them.

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

/// Whether `tensor` is on a GPU.
pub(crate) fn has(tensor: &Tensor) -> bool {
    tensor.device().is_cuda()
}

/// Numbers that count something, as the kernels take them.
fn as_u32(numbers: impl Iterator<Item = usize>) -> Result<Vec<u32>> {
    numbers.map(|number| u32::try_from(number).map_err(candle_core::Error::wrap)).collect()
}
