//! Which device runs the functions of this crate, and in which dtype.

use candle_core::{bail, DType, Device, Result};

#[path = "../cuda/src/limits.rs"]
pub mod gpu_limits;

use gpu_limits::{HEAD_DIMS, MAX_CHAINS, VECTOR};

#[cfg(all(feature = "cuda", feature = "twin"))]
compile_error!("the features `cuda` and `twin` both define the CUDA launchers; enable only one");

/// Whether this build computes on `device`: on the CPU, and with the feature `cuda` on a GPU.
pub fn supports_device(device: &Device) -> bool {
    device.is_cpu() || cfg!(feature = "cuda") && device.is_cuda()
}

/// Whether tensors of `dtype` on `device` are computed by the CUDA kernels. With the feature `twin` that includes bf16
/// and f16 in CPU memory.
pub fn uses_gpu_kernels(device: &Device, dtype: DType) -> bool {
    let on_twin = cfg!(feature = "twin") && matches!(dtype, DType::BF16 | DType::F16);
    device.is_cuda() || on_twin
}

/// The dtype of activations for weights of `dtype` on `device`: f32 on the CPU, and `dtype` where the CUDA kernels
/// compute.
pub fn activation_dtype(device: &Device, dtype: DType) -> DType {
    if uses_gpu_kernels(device, dtype) {
        dtype
    } else {
        DType::F32
    }
}

/// Checks a model against the limits of the CUDA kernels: weights of `dtype`, heads of `head_dim` numbers, per chain
/// its query heads and the key/value heads that they read, and `widths`, each with the name used in the error.
///
/// # Errors
/// If the dtype is not bf16 or f16, if `head_dim` is not 32, 64 or 128, if there are more than 16 chains, if the query
/// heads of a chain are not a multiple of the key/value heads, or if a width is not a multiple of 8.
pub fn check_gpu_limits(
    dtype: DType,
    head_dim: usize,
    heads: &[(usize, usize)],
    widths: impl IntoIterator<Item = (String, usize)>,
) -> Result<()> {
    if !matches!(dtype, DType::BF16 | DType::F16) {
        bail!("the CUDA kernels compute in bf16 or f16, not {}", dtype.as_str());
    }
    if !HEAD_DIMS.contains(&head_dim) {
        bail!("head_dim = {head_dim}: the CUDA kernels support a head_dim of {HEAD_DIMS:?}");
    }
    let chains = heads.len();
    if chains > MAX_CHAINS {
        bail!("{chains} chains: the CUDA kernels support up to {MAX_CHAINS}");
    }
    for (chain, (heads, kv_heads)) in heads.iter().enumerate() {
        if !heads.is_multiple_of(*kv_heads) {
            bail!(
                "num_attention_heads of chain {} is {heads}: the CUDA kernels need a multiple of the {kv_heads} key/value \
                 heads that it reads",
                chain + 1
            );
        }
    }
    if let Some((name, width)) = widths.into_iter().find(|(_, width)| !width.is_multiple_of(VECTOR))
    {
        bail!("{name} is {width}: the CUDA kernels need a multiple of {VECTOR}");
    }
    Ok(())
}
