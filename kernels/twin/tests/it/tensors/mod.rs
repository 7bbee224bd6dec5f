//! The functions of `colm-cuda` on candle tensors, against those of `colm-kernels` on the CPU, on the same step.

mod attention;
mod errors;
mod linear;
mod norm;

use candle_core::{DType, Device, Result, Tensor};

const CPU: Device = Device::Cpu;

fn random(shape: &[usize], dtype: DType) -> Result<Tensor> {
    Tensor::randn(0f32, 1., shape, &CPU)?.to_dtype(dtype)
}

/// Both round to the dtype once at the end, but sum in different orders.
fn assert_close(found: &Tensor, expected: &Tensor, what: &str) -> Result<()> {
    let dtype = found.dtype();
    let (found, expected) = (found.to_dtype(DType::F32)?, expected.to_dtype(DType::F32)?);
    let norm = |x: &Tensor| x.sqr()?.sum_all()?.to_scalar::<f32>();
    let error = (norm(&(&found - &expected)?)? / norm(&expected)?).sqrt();
    let bound = if dtype == DType::BF16 { 1e-2 } else { 2e-3 };
    assert!(error <= bound, "{what} in {dtype:?}: relative error {error}");
    Ok(())
}

fn assert_error<T: std::fmt::Debug>(result: Result<T>, expected: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(expected), "`{expected}` is missing in: {error}");
}
