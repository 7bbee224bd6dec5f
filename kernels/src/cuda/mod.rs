//! The CUDA backend: converts the arguments of this crate's functions to those of `colm-cuda`.
//!
//! With the feature `twin` the launchers run on the CPU emulator, on tensors in CPU memory that are bf16 or f16.
//! Tensors of f32 stay with the CPU backend.

mod attention;
mod kv_blocks;
mod linear;
mod norm;
mod rope;
mod rope_and_write;
mod upload_cache;

pub(crate) use attention::attend;
pub(crate) use kv_blocks::{write, write_with_rope};
pub(crate) use linear::{chain_linear, GpuMatrix};
pub(crate) use norm::chain_rms_norm;
pub(crate) use rope::{rope, GpuRopeTables};
pub(crate) use rope_and_write::rope_and_write;

use candle_core::{Result, Tensor};

// Links the launchers of the twin.
#[cfg(feature = "twin")]
extern crate colm_kernels_twin as _;

/// Whether the CUDA kernels compute on `tensor`.
pub(crate) fn accepts(tensor: &Tensor) -> bool {
    crate::device::uses_gpu_kernels(tensor.device(), tensor.dtype())
}

/// Row indices or positions as the kernels take them.
fn as_u32(numbers: impl Iterator<Item = usize>) -> Result<Vec<u32>> {
    numbers.map(|number| u32::try_from(number).map_err(candle_core::Error::wrap)).collect()
}
