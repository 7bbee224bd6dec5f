//! Fused operations, each with one forward and one backward pass.
//!
//! [`crate::model`] composes them from candle's operations, each of which allocates a tensor, and two more for its
//! gradient. At the sizes trained here that takes most of a step. All operations take contiguous f32 tensors on the
//! CPU.

mod attention;
mod heads;

use candle_core::backend::BackendStorage;
use candle_core::{bail, CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor};

pub use attention::AttentionWeights;
pub use heads::{MergeHeads, Rotation, SplitHeads};

/// x `[rows, in]` and weights W `[out, in]` to x W^T `[rows, out]`.
///
/// The gradient of x is computed only if x depends on a variable, so frozen chains have no backward pass.
pub struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((rows, inputs), (outputs, _)) =
            (x_layout.shape().dims2()?, weight_layout.shape().dims2()?);
        let sizes = (1, rows, outputs, inputs);
        let y = x.matmul(weight, sizes, x_layout, &weight_layout.transpose(0, 1)?)?;
        Ok((y, (rows, outputs).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of_x = x.track_op().then(|| gradient.matmul(weight)).transpose()?;
        let of_weight = weight.track_op().then(|| gradient.t()?.matmul(x)).transpose()?;
        Ok((of_x, of_weight))
    }
}

/// x `[rows, width]` and weights w `[width]` to w * x / sqrt(mean(x^2) + eps), with the mean over each row.
pub struct RmsNorm {
    /// `rms_norm_eps`
    pub eps: f32,
}

impl RmsNorm {
    /// 1 / sqrt(mean(x^2) + eps)
    fn scale(&self, row: &[f32]) -> f32 {
        let squares: f32 = row.iter().map(|x| x * x).sum();
        (squares / row.len() as f32 + self.eps).sqrt().recip()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (values(x, x_layout)?, values(weight, weight_layout)?);
        let mut y = Vec::with_capacity(x.len());
        for row in x.chunks_exact(weight.len()) {
            let scale = self.scale(row);
            y.extend(row.iter().zip(weight).map(|(x, weight)| weight * x * scale));
        }
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (xs, gradients, weights) = (flat(x)?, flat(gradient)?, flat(weight)?);
        let width = weights.len();
        let (mut of_x, mut of_weight) = (Vec::with_capacity(xs.len()), vec![0.; width]);
        for (row, gradient) in xs.chunks_exact(width).zip(gradients.chunks_exact(width)) {
            let scale = self.scale(row);
            let mut along = 0.;
            for i in 0..width {
                along += gradient[i] * weights[i] * row[i];
                of_weight[i] += gradient[i] * row[i] * scale;
            }
            let pull = along * scale * scale / width as f32;
            of_x.extend((0..width).map(|i| scale * (gradient[i] * weights[i] - row[i] * pull)));
        }
        Ok((Some(tensor(of_x, x.shape())?), Some(tensor(of_weight, weight.shape())?)))
    }
}

/// Gate g and up u of equal shape to silu(g) * u.
pub struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (values(gate, gate_layout)?, values(up, up_layout)?);
        let y = gate.iter().zip(up).map(|(gate, up)| gate * sigmoid(*gate) * up).collect();
        Ok((CpuStorage::F32(y), gate_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (gates, ups, gradients) = (flat(gate)?, flat(up)?, flat(gradient)?);
        let (mut of_gate, mut of_up) =
            (Vec::with_capacity(ups.len()), Vec::with_capacity(ups.len()));
        for ((gate, up), gradient) in gates.iter().zip(&ups).zip(&gradients) {
            let sigmoid = sigmoid(*gate);
            of_gate.push(gradient * up * sigmoid * (1. + gate * (1. - sigmoid)));
            of_up.push(gradient * gate * sigmoid);
        }
        Ok((Some(tensor(of_gate, gate.shape())?), Some(tensor(of_up, up.shape())?)))
    }
}

fn sigmoid(x: f32) -> f32 {
    (1. + (-x).exp()).recip()
}

/// Concatenates `[rows, a]` and `[rows, b]` to `[rows, a + b]`. The gradient of the first is computed only if it
/// depends on a variable.
pub struct Concat;

impl CustomOp2 for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn cpu_fwd(
        &self,
        left: &CpuStorage,
        left_layout: &Layout,
        right: &CpuStorage,
        right_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((rows, a), (_, b)) = (left_layout.shape().dims2()?, right_layout.shape().dims2()?);
        let (left, right) = (values(left, left_layout)?, values(right, right_layout)?);
        let mut y = Vec::with_capacity(rows * (a + b));
        for (left, right) in left.chunks_exact(a).zip(right.chunks_exact(b)) {
            y.extend_from_slice(left);
            y.extend_from_slice(right);
        }
        Ok((CpuStorage::F32(y), (rows, a + b).into()))
    }

    fn bwd(
        &self,
        left: &Tensor,
        right: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((rows, a), (_, b)) = (left.dims2()?, right.dims2()?);
        let (mut of_left, mut of_right) =
            (Vec::with_capacity(rows * a), Vec::with_capacity(rows * b));
        for row in flat(gradient)?.chunks_exact(a + b) {
            of_left.extend_from_slice(&row[..a]);
            of_right.extend_from_slice(&row[a..]);
        }
        let of_left = left.track_op().then(|| tensor(of_left, left.shape())).transpose()?;
        Ok((of_left, Some(tensor(of_right, right.shape())?)))
    }
}

/// The values of a contiguous f32 tensor.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => bail!("expected a contiguous tensor: {layout:?}"),
    }
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

fn tensor(values: Vec<f32>, shape: &Shape) -> Result<Tensor> {
    Tensor::from_vec(values, shape.clone(), &Device::Cpu)
}
