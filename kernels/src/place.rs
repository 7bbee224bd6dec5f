//! Where the functions run, and in what they compute there.

use candle_core::{bail, DType, Device, Result};

#[cfg(all(feature = "cuda", feature = "twin"))]
compile_error!("the features `cuda` and `twin` give the same kernels two places; choose one");

/// Whether the functions of this build run on tensors of `device`: on the CPU, and with the feature `cuda` on
/// a GPU.
pub fn runs_on(device: &Device) -> bool {
    device.is_cpu() || cfg!(feature = "cuda") && device.is_cuda()
}

/// Whether tensors of `dtype` on `device` go to the kernels of a GPU.
pub fn is_gpu(device: &Device, dtype: DType) -> bool {
    let on_twin = cfg!(feature = "twin") && matches!(dtype, DType::BF16 | DType::F16);
    device.is_cuda() || on_twin
}

/// What everything between the weights and the KV cache is in, where weights are `dtype`: f32 on the CPU, on
/// a GPU their own dtype.
pub fn activations(device: &Device, dtype: DType) -> DType {
    match is_gpu(device, dtype) {
        true => dtype,
        false => DType::F32,
    }
}

/// Heads the kernels of a GPU are built for.
const GPU_HEAD_DIMS: [usize; 3] = [32, 64, 128];

/// Chains the kernels of a GPU take.
pub(crate) const GPU_CHAINS: usize = 16;

/// The kernels of a GPU read and write so many numbers at once.
pub(crate) const GPU_VECTOR: usize = 8;

/// Fails if the kernels of a GPU do not take weights of `dtype`, heads of `head_dim`, so many `chains`, or one
/// of the `widths`, which come with the names of what they are the widths of.
pub fn check_gpu(
    dtype: DType,
    head_dim: usize,
    chains: usize,
    widths: impl IntoIterator<Item = (String, usize)>,
) -> Result<()> {
    if !matches!(dtype, DType::BF16 | DType::F16) {
        bail!("the CUDA kernels compute in bf16 or f16, not {}", dtype.as_str());
    }
    if !GPU_HEAD_DIMS.contains(&head_dim) {
        bail!("head_dim = {head_dim}: the CUDA kernels have heads of 32, 64 or 128");
    }
    if chains > GPU_CHAINS {
        bail!("{chains} chains: the CUDA kernels take up to {GPU_CHAINS}");
    }
    match widths.into_iter().find(|(_, width)| !width.is_multiple_of(GPU_VECTOR)) {
        Some((name, width)) => {
            bail!("{name} is {width} wide: the CUDA kernels take multiples of {GPU_VECTOR}")
        }
        None => Ok(()),
    }
}
