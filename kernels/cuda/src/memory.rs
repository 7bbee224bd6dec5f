//! Arguments and results of the launchers: addresses, streams, dtypes, statuses.

use std::ffi::{c_void, CStr};

use candle_core::{bail, CpuStorage, DType, Device, Result, Storage, Tensor};

use crate::ffi;
use crate::limits::{MAX_CHAINS, VECTOR};

/// The address of the first number of a contiguous tensor on `device`.
pub(crate) fn address(tensor: &Tensor, device: &Device) -> Result<*mut c_void> {
    if !tensor.device().same_device(device) {
        bail!(
            "a tensor is on {:?}, the others on {:?}",
            tensor.device().location(),
            device.location()
        );
    }
    if !tensor.is_contiguous() {
        bail!("a tensor of {:?} is not contiguous", tensor.dims());
    }
    let (storage, layout) = tensor.storage_and_layout();
    let start = layout.start_offset() * tensor.dtype().size_in_bytes();
    Ok(base(&storage, device)?.wrapping_byte_add(start))
}

/// The address of an optional tensor.
pub(crate) fn address_or_null(tensor: Option<&Tensor>, device: &Device) -> Result<*mut c_void> {
    tensor.map_or(Ok(std::ptr::null_mut()), |tensor| address(tensor, device))
}

/// The address of the first number of a storage.
fn base(storage: &Storage, device: &Device) -> Result<*mut c_void> {
    match storage {
        Storage::Cpu(storage) if cfg!(not(feature = "cuda")) => Ok(match storage {
            CpuStorage::BF16(numbers) => numbers.as_ptr() as *mut c_void,
            CpuStorage::F16(numbers) => numbers.as_ptr() as *mut c_void,
            CpuStorage::F32(numbers) => numbers.as_ptr() as *mut c_void,
            CpuStorage::U32(numbers) => numbers.as_ptr() as *mut c_void,
            CpuStorage::I64(numbers) => numbers.as_ptr() as *mut c_void,
            _ => bail!("the CUDA kernels do not support this dtype"),
        }),
        #[cfg(feature = "cuda")]
        Storage::Cuda(storage) => cuda::base(storage, device),
        _ => bail!("this build of the CUDA kernels does not run on {:?}", device.location()),
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use candle_core::cuda_backend::cudarc::driver::DevicePtr;
    use candle_core::cuda_backend::{CudaStorage, CudaStorageSlice};

    use super::*;

    pub(super) fn base(storage: &CudaStorage, device: &Device) -> Result<*mut c_void> {
        let stream = device.as_cuda_device()?.cuda_stream();
        // All work is on this one stream, so the guards have nothing to wait for.
        let address = match &storage.slice {
            CudaStorageSlice::BF16(numbers) => numbers.device_ptr(&stream).0,
            CudaStorageSlice::F16(numbers) => numbers.device_ptr(&stream).0,
            CudaStorageSlice::F32(numbers) => numbers.device_ptr(&stream).0,
            CudaStorageSlice::U32(numbers) => numbers.device_ptr(&stream).0,
            CudaStorageSlice::I64(numbers) => numbers.device_ptr(&stream).0,
            _ => bail!("the CUDA kernels do not support this dtype"),
        };
        Ok(address as *mut c_void)
    }

    pub(super) fn stream(device: &Device) -> Result<*mut c_void> {
        let stream = device.as_cuda_device()?.cuda_stream();
        // The launchers use the current context of the thread.
        stream.context().bind_to_thread().map_err(candle_core::Error::wrap)?;
        // SAFETY: no arguments.
        launched("keep_freed_memory", unsafe { ffi::colm_keep_freed_memory() })?;
        Ok(stream.cu_stream().cast())
    }
}

/// The stream of a device, for a launch by this thread.
pub(crate) fn stream(device: &Device) -> Result<*mut c_void> {
    #[cfg(feature = "cuda")]
    return cuda::stream(device);
    #[cfg(not(feature = "cuda"))]
    match device {
        Device::Cpu => Ok(std::ptr::null_mut()),
        _ => bail!("colm-cuda was built without the feature `cuda`"),
    }
}

/// An uninitialized tensor for a kernel to fill.
pub(crate) fn empty(shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    // SAFETY: the numbers are plain floats, and the kernel writes all of them before anything on its stream reads them.
    unsafe { Tensor::empty(shape, dtype, device) }
}

/// Uninitialized tensors of `shapes` for one kernel to fill. They are parts of one allocation, which is freed when none
/// of them is in use, and are aligned to 16 bytes.
pub(crate) fn empty_parts<'a>(
    shapes: impl Iterator<Item = &'a [usize]> + Clone,
    dtype: DType,
    device: &Device,
) -> Result<Vec<Tensor>> {
    let size = |shape: &[usize]| shape.iter().product::<usize>();
    let total = shapes.clone().map(|shape| size(shape).next_multiple_of(VECTOR)).sum();
    let all = empty(&[total], dtype, device)?;
    let mut start = 0;
    let part = |shape: &[usize]| {
        let part = all.narrow(0, start, size(shape))?.reshape(shape)?;
        start += size(shape).next_multiple_of(VECTOR);
        Ok(part)
    };
    shapes.map(part).collect()
}

/// The code of a dtype in the launchers.
pub(crate) fn code_of(dtype: DType) -> Result<i32> {
    match dtype {
        DType::BF16 => Ok(0),
        DType::F16 => Ok(1),
        other => bail!("the CUDA kernels compute in bf16 or f16, not {other:?}"),
    }
}

/// Converts a size to the type of the launchers.
pub(crate) fn int(number: usize) -> Result<i32> {
    number
        .try_into()
        .map_err(|_| candle_core::Error::msg(format!("{number} is too large for a kernel")))
}

/// Fails if a launch of `chains` chains is not supported.
pub(crate) fn check_chain_count(chains: usize) -> Result<()> {
    if chains > MAX_CHAINS {
        bail!("{chains} chains: the CUDA kernels support up to {MAX_CHAINS}");
    }
    Ok(())
}

/// Fails unless `numbers` has one number of `dtype` per row.
pub(crate) fn check_row_numbers(
    name: &str,
    numbers: &Tensor,
    rows: usize,
    dtype: DType,
) -> Result<()> {
    if numbers.dims() != [rows] || numbers.dtype() != dtype {
        bail!("{name} must be {dtype:?} [{rows}], not {:?} {:?}", numbers.dtype(), numbers.dims());
    }
    Ok(())
}

/// Converts the status of a launcher to a result.
pub(crate) fn launched(kernel: &str, status: i32) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: the description is NUL-terminated and valid until this thread's next launch.
    let reason = unsafe { CStr::from_ptr(ffi::colm_status_text(status)) };
    bail!("{kernel}: {}", reason.to_string_lossy())
}
