//! The functions of `colm-kernels` on candle tensors of a GPU, against the same functions on the CPU in f32, which the
//! crate's other tests compare with formulas.
//!
//!     cargo test -p colm-kernels --features cuda --test gpu     on a GPU
//!     cargo test -p colm-kernels --features twin --test gpu     on the CPU, which runs the kernels thread by thread

mod attention;
mod linear;
mod rowwise;

use std::sync::OnceLock;

use candle_core::{DType, Device, Result, Tensor};

const DTYPES: [DType; 2] = [DType::BF16, DType::F16];

/// The device that the kernels run on, one object for the whole process.
fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(new_device)
}

fn new_device() -> Device {
    if cfg!(feature = "cuda") {
        Device::new_cuda(0).expect("these tests run on a GPU")
    } else {
        Device::Cpu
    }
}

/// Random numbers of `dtype` in CPU memory.
fn random(shape: &[usize], dtype: DType) -> Result<Tensor> {
    Tensor::randn(0f32, 1., shape, &Device::Cpu)?.to_dtype(dtype)
}

fn on_device(tensors: &[Tensor]) -> Result<Vec<Tensor>> {
    tensors.iter().map(|tensor| tensor.to_device(device())).collect()
}

fn in_f32(tensors: &[Tensor]) -> Result<Vec<Tensor>> {
    tensors.iter().map(|tensor| tensor.to_dtype(DType::F32)).collect()
}

/// Compares a result of the kernels with one in f32 from the same rounded inputs.
fn assert_close(found: &Tensor, expected: &Tensor, what: &str) -> Result<()> {
    let dtype = found.dtype();
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let found = found.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    let norm = |x: &Tensor| x.sqr()?.sum_all()?.to_scalar::<f32>();
    let error = (norm(&(&found - expected)?)? / norm(expected)?).sqrt();
    let bound = if dtype == DType::BF16 { 1e-2 } else { 2e-3 };
    assert!(error <= bound, "{what} in {dtype:?}: relative error {error}");
    Ok(())
}
