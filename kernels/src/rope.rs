//! Rotary position embedding.

use std::f64::consts::PI;

use candle_core::{bail, Result, Tensor};

use crate::cpu::tensor_rows::{contiguous_rows, fill_rows};
use crate::cpu::{for_dtype, Element, TensorRows};

/// Llama 3's scaling of the rotary frequencies for longer contexts: `rope_scaling` of type "llama3" in config.json
/// (`docs/spec.md#config`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3Scaling {
    /// The divisor of low frequencies.
    pub factor: f64,
    /// Frequencies with fewer rotations than this over the original context are divided by `factor`.
    pub low_freq_factor: f64,
    /// Frequencies with more rotations than this over the original context are unchanged. Between the two bounds the
    /// scaling is interpolated.
    pub high_freq_factor: f64,
    /// The length of the original context, in positions.
    pub original_max_position_embeddings: f64,
}

impl Llama3Scaling {
    fn scaled(&self, frequency: f64) -> f64 {
        let rotations = self.original_max_position_embeddings * frequency / (2.0 * PI);
        let span = self.high_freq_factor - self.low_freq_factor;
        let kept = ((rotations - self.low_freq_factor) / span).clamp(0.0, 1.0);
        frequency * (kept + (1.0 - kept) / self.factor)
    }
}

/// Llama's rotary position embedding (`docs/spec.md#layers`): within a head, the pair (j, j + head_dim / 2) is rotated
/// by the angle `position * theta^(-2 j / head_dim)`.
#[derive(Clone, Debug)]
pub struct Rope {
    /// `[max_positions, head_dim / 2]`
    cos: Vec<f32>,
    /// `[max_positions, head_dim / 2]`
    sin: Vec<f32>,
    half: usize,
    max_positions: usize,
    #[cfg(feature = "gpu")]
    gpu_tables: crate::cuda::GpuRopeTables,
}

impl Rope {
    /// The table of cosines and sines for positions `0..max_positions`, computed in f64.
    ///
    /// # Errors
    /// If `head_dim` is odd or 0, if `theta` is not positive, or if the scaling is invalid.
    pub fn new(
        head_dim: usize,
        theta: f64,
        max_positions: usize,
        scaling: Option<Llama3Scaling>,
    ) -> Result<Self> {
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            bail!("RoPE rotates pairs, so head_dim must be even and not 0, not {head_dim}");
        }
        if theta.is_nan() || theta <= 0.0 {
            bail!("rope_theta must be positive, not {theta}");
        }
        if let Some(scaling) = scaling {
            let positive = scaling.factor > 0.0 && scaling.original_max_position_embeddings > 0.0;
            if !positive
                || scaling.high_freq_factor.partial_cmp(&scaling.low_freq_factor)
                    != Some(std::cmp::Ordering::Greater)
            {
                bail!(
                    "rope_scaling needs a positive factor and original_max_position_embeddings, and \
                     high_freq_factor above low_freq_factor, not {scaling:?}"
                );
            }
        }
        let half = head_dim / 2;
        let frequencies: Vec<f64> = (0..half)
            .map(|j| theta.powf(-2.0 * j as f64 / head_dim as f64))
            .map(|frequency| scaling.map_or(frequency, |scaling| scaling.scaled(frequency)))
            .collect();
        let table = |of: fn(f64) -> f64| {
            let mut table = vec![0.0; max_positions * half];
            fill_rows(
                &mut table,
                half,
                || (),
                |_, position, out| {
                    for (out, frequency) in out.iter_mut().zip(&frequencies) {
                        *out = of(position as f64 * frequency) as f32;
                    }
                },
            );
            table
        };
        let (cos, sin) = (table(f64::cos), table(f64::sin));
        Ok(Self {
            cos,
            sin,
            half,
            max_positions,
            #[cfg(feature = "gpu")]
            gpu_tables: Default::default(),
        })
    }

    /// Rotates `x` `[rows, heads, head_dim]` of f32, bf16 or f16, row r at `positions[r]`. Rows may be strided. Returns
    /// a contiguous tensor of the same shape and dtype.
    ///
    /// # Errors
    /// If the shape does not fit or a position is not below `max_positions`.
    pub fn apply(&self, x: &Tensor, positions: &[usize]) -> Result<Tensor> {
        self.check(x, positions)?;
        #[cfg(feature = "gpu")]
        if crate::cuda::accepts(x) {
            return crate::cuda::rope(x, positions, &self.gpu_table(x.device())?);
        }
        for_dtype!(x.dtype(), T => self.apply_rows::<T>(x, positions))
    }

    pub(crate) fn check(&self, x: &Tensor, positions: &[usize]) -> Result<()> {
        let (rows, _, head_dim) = x.dims3()?;
        if head_dim != 2 * self.half || rows != positions.len() {
            bail!(
                "{} positions and a table for heads of {} do not fit x [rows, heads, head_dim] = {:?}",
                positions.len(),
                2 * self.half,
                x.dims()
            );
        }
        if let Some(position) = positions.iter().find(|&&at| at >= self.max_positions) {
            bail!("position {position} is beyond the model's {} positions", self.max_positions);
        }
        Ok(())
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn gpu_table(&self, device: &candle_core::Device) -> Result<colm_cuda::RopeTable> {
        self.gpu_tables.get(device, (&self.cos, &self.sin), self.half)
    }

    fn apply_rows<T: Element>(&self, x: &Tensor, positions: &[usize]) -> Result<Tensor> {
        let x = contiguous_rows(x)?;
        let (storage, layout) = x.storage_and_layout();
        let rows = TensorRows::<T>::new(&storage, layout)?;
        let head_dim = 2 * self.half;
        let width = (x.dim(1)? * head_dim).max(1);
        let mut out = vec![T::zero(); x.elem_count()];
        let scratch = || vec![0.0; head_dim];
        fill_rows(&mut out, width, scratch, |wide, row, out| {
            let heads = rows.row(row).chunks_exact(head_dim);
            for (x, out) in heads.zip(out.chunks_exact_mut(head_dim)) {
                T::widen(x, wide);
                self.rotate(wide, positions[row], out);
            }
        });
        Tensor::from_vec(out, x.dims(), x.device())
    }

    fn rotate<T: Element>(&self, x: &[f32], position: usize, out: &mut [T]) {
        let table = position * self.half..(position + 1) * self.half;
        let angles = self.cos[table.clone()].iter().zip(&self.sin[table]);
        let (left, right) = x.split_at(self.half);
        let (out_left, out_right) = out.split_at_mut(self.half);
        let pairs = left.iter().zip(right).zip(out_left.iter_mut().zip(out_right));
        for ((&cos, &sin), ((&x, &y), (out_x, out_y))) in angles.zip(pairs) {
            *out_x = T::narrow(x * cos - y * sin);
            *out_y = T::narrow(y * cos + x * sin);
        }
    }
}
