//! The weights of causal attention.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{flat, tensor};

/// Queries and keys `[batch, heads, tokens, head_dim]` to the weights of causal attention
/// `[batch, heads, tokens, tokens]`: softmax(q k^T / sqrt(head_dim)) over positions up to the row's own, 0 after it.
pub struct AttentionWeights;

impl CustomOp2 for AttentionWeights {
    fn name(&self) -> &'static str {
        "attention-weights"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, heads, length, head_dim) = q_layout.shape().dims4()?;
        let sizes = (batch * heads, length, length, head_dim);
        let scores = q.matmul(k, sizes, q_layout, &k_layout.transpose(2, 3)?)?;
        let mut weights = scores.as_slice::<f32>()?.to_vec();
        for (at, row) in weights.chunks_exact_mut(length).enumerate() {
            let (seen, unseen) = row.split_at_mut(at % length + 1);
            softmax(seen, scale(head_dim));
            unseen.fill(0.);
        }
        Ok((CpuStorage::F32(weights), (batch, heads, length, length).into()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        weights: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, _, length, head_dim) = q.dims4()?;
        let (flat_weights, gradients) = (flat(weights)?, flat(gradient)?);
        let mut of_scores = Vec::with_capacity(gradients.len());
        let rows = flat_weights.chunks_exact(length).zip(gradients.chunks_exact(length));
        for (weights, gradient) in rows {
            // After the row's own position the weight is 0, and so is the gradient of the score.
            let mean: f32 = weights.iter().zip(gradient).map(|(w, gradient)| w * gradient).sum();
            let of_row = weights.iter().zip(gradient);
            of_scores.extend(of_row.map(|(w, gradient)| scale(head_dim) * w * (gradient - mean)));
        }
        let of_scores = tensor(of_scores, weights.shape())?;
        let of_k = k.track_op().then(|| of_scores.t()?.matmul(q)).transpose()?;
        Ok((Some(of_scores.matmul(k)?), of_k))
    }
}

/// 1 / sqrt(head_dim)
fn scale(head_dim: usize) -> f32 {
    (head_dim as f32).sqrt().recip()
}

/// softmax(scale * score), in place.
fn softmax(scores: &mut [f32], scale: f32) {
    let highest = scores.iter().fold(f32::NEG_INFINITY, |high, score| high.max(*score));
    let mut sum = 0.;
    for score in scores.iter_mut() {
        *score = (scale * (*score - highest)).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}
