//! The causal mask and RoPE.

use candle_core::{DType, Device, Result, Tensor, D};
use colm_checkpoint::{ColmConfig, Llama3Scaling};

use crate::fused::Rotation;

/// `[length, length]`: 0 at and before a row's own position, minus infinity after it.
pub(crate) fn causal_mask(length: usize) -> Result<Tensor> {
    let entries = (0..length).flat_map(|row| {
        (0..length).map(move |column| if column <= row { 0. } else { f32::NEG_INFINITY })
    });
    Tensor::from_iter(entries, &Device::Cpu)?.reshape((length, length))
}

/// Llama's rotary position embedding: the first half of a head is rotated with the second.
pub(crate) struct Rope {
    /// `[positions, head_dim / 2]`
    cos: Tensor,
    /// `[positions, head_dim / 2]`
    sin: Tensor,
}

impl Rope {
    pub fn new(config: &ColmConfig) -> Result<Self> {
        let positions = config.file.max_position_embeddings;
        let half = config.head_dim / 2;
        let mut angles = Vec::with_capacity(positions * half);
        for position in 0..positions {
            for pair in 0..half {
                let exponent = -(2. * pair as f64) / config.head_dim as f64;
                let mut frequency = config.file.rope_theta.powf(exponent);
                if let Some(scaling) = &config.rope_scaling {
                    frequency = llama3(frequency, scaling);
                }
                angles.push(position as f64 * frequency);
            }
        }
        let angles = Tensor::from_vec(angles, (positions, half), &Device::Cpu)?;
        Ok(Self {
            cos: angles.cos()?.to_dtype(DType::F32)?,
            sin: angles.sin()?.to_dtype(DType::F32)?,
        })
    }

    /// The tables of the first `length` positions.
    pub fn first(&self, length: usize) -> Result<Self> {
        Ok(Self { cos: self.cos.narrow(0, 0, length)?, sin: self.sin.narrow(0, 0, length)? })
    }

    /// The tables for [`SplitHeads`](crate::fused::SplitHeads), which rotates like [`rotate`](Self::rotate).
    pub fn rotation(&self) -> Result<Rotation> {
        Rotation::new(&self.cos, &self.sin)
    }

    /// Rotates `[batch, heads, positions, head_dim]`.
    pub fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let half = x.dim(D::Minus1)? / 2;
        let (a, b) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
        let rotated_a = (a.broadcast_mul(&self.cos)? - b.broadcast_mul(&self.sin)?)?;
        let rotated_b = (b.broadcast_mul(&self.cos)? + a.broadcast_mul(&self.sin)?)?;
        Tensor::cat(&[rotated_a, rotated_b], D::Minus1)
    }
}

/// Llama 3's scaling of a RoPE frequency: long wavelengths are divided by `factor`, short ones kept, and those between
/// interpolated.
fn llama3(frequency: f64, scaling: &Llama3Scaling) -> f64 {
    let wavelength = std::f64::consts::TAU / frequency;
    let trained = scaling.original_max_position_embeddings as f64;
    let (low, high) = (scaling.low_freq_factor, scaling.high_freq_factor);
    if wavelength < trained / high {
        frequency
    } else if wavelength > trained / low {
        frequency / scaling.factor
    } else {
        let kept = (trained / wavelength - low) / (high - low);
        (1. - kept) * frequency / scaling.factor + kept * frequency
    }
}
