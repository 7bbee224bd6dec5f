//! Conversions between rows and heads, with RoPE.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{flat, tensor, values};

/// Rows `[batch * tokens, heads * head_dim]` to heads `[batch, heads, tokens, head_dim]`, optionally with RoPE, which
/// rotates the first half of a head with the second.
#[derive(Clone)]
pub struct SplitHeads {
    /// The number of sequences.
    pub batch: usize,
    /// The dimension of a head.
    pub head_dim: usize,
    /// The RoPE tables for positions 0, 1, ..; `None` for values, which are not rotated.
    pub rotation: Option<Rotation>,
}

/// Heads `[batch, heads, tokens, head_dim]` to rows `[batch * tokens, heads * head_dim]`: the inverse of
/// [`SplitHeads`].
pub struct MergeHeads(pub SplitHeads);

/// Cosines and sines of the RoPE angles.
#[derive(Clone)]
pub struct Rotation {
    /// `[tokens, head_dim / 2]`
    cos: Arc<[f32]>,
    /// `[tokens, head_dim / 2]`
    sin: Arc<[f32]>,
}

impl Rotation {
    /// From tables `[tokens, head_dim / 2]`.
    pub fn new(cos: &Tensor, sin: &Tensor) -> Result<Self> {
        Ok(Self { cos: flat(cos)?.into(), sin: flat(sin)?.into() })
    }

    /// Rotates `head` to `position` with `sign` 1, and back with -1.
    fn rotate(&self, head: &mut [f32], position: usize, sign: f32) {
        let half = head.len() / 2;
        let (first, second) = head.split_at_mut(half);
        for (i, (a, b)) in first.iter_mut().zip(second).enumerate() {
            let at = position * half + i;
            let (cos, sin) = (self.cos[at], sign * self.sin[at]);
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

impl SplitHeads {
    fn split(&self, x: &[f32], rows: usize, width: usize) -> (Vec<f32>, Shape) {
        let (length, heads) = (rows / self.batch, width / self.head_dim);
        let mut y = Vec::with_capacity(x.len());
        for (sequence, head) in (0..self.batch).flat_map(|s| (0..heads).map(move |h| (s, h))) {
            for position in 0..length {
                let from = (sequence * length + position) * width + head * self.head_dim;
                let to = y.len();
                y.extend_from_slice(&x[from..from + self.head_dim]);
                if let Some(rotation) = &self.rotation {
                    rotation.rotate(&mut y[to..], position, 1.);
                }
            }
        }
        (y, (self.batch, heads, length, self.head_dim).into())
    }

    fn merge(&self, y: &[f32], heads: usize, length: usize) -> (Vec<f32>, Shape) {
        let width = heads * self.head_dim;
        let mut x = vec![0.; y.len()];
        for (at, part) in y.chunks_exact(self.head_dim).enumerate() {
            let (sequence, head, position) =
                (at / length / heads, at / length % heads, at % length);
            let to = (sequence * length + position) * width + head * self.head_dim;
            let row = &mut x[to..to + self.head_dim];
            row.copy_from_slice(part);
            if let Some(rotation) = &self.rotation {
                rotation.rotate(row, position, -1.);
            }
        }
        (x, (self.batch * length, width).into())
    }
}

impl CustomOp1 for SplitHeads {
    fn name(&self) -> &'static str {
        "split-heads"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let (y, shape) = self.split(values(x, layout)?, rows, width);
        Ok((CpuStorage::F32(y), shape))
    }

    fn bwd(&self, _: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (_, heads, length, _) = y.dims4()?;
        let (x, shape) = self.merge(&flat(gradient)?, heads, length);
        tensor(x, &shape).map(Some)
    }
}

impl CustomOp1 for MergeHeads {
    fn name(&self) -> &'static str {
        "merge-heads"
    }

    fn cpu_fwd(&self, y: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, heads, length, _) = layout.shape().dims4()?;
        let (x, shape) = self.0.merge(values(y, layout)?, heads, length);
        Ok((CpuStorage::F32(x), shape))
    }

    fn bwd(&self, _: &Tensor, x: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (rows, width) = x.dims2()?;
        let (y, shape) = self.0.split(&flat(gradient)?, rows, width);
        tensor(y, &shape).map(Some)
    }
}
