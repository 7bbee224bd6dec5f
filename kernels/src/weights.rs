//! The weights of linear layers, in the format that the product reads.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{bail, DType, Device, Result, Tensor, WithDType};

use crate::cpu::arch::{check_isa_limit, multiplies_bf16};
use crate::cpu::gemm::rhs::{PackedFloats, RhsPanels};
use crate::cpu::gemm::{Bf16Pairs, PackedRhs, TileOperand, NR};
use crate::cpu::{for_dtype, for_quantized, Element, Quantized};
#[cfg(feature = "gpu")]
use crate::cuda::GpuMatrix;
use crate::MatmulPrecision;

/// The weights of a ChainLinear (`docs/spec.md#layers`), in the format that the product reads: W_i
/// `[out_i, in_1 + .. + in_i]`, and optionally b_i `[out_i]`, for every chain that has an output, chain 1 first. A
/// model at k chains reads the first k.
#[derive(Debug)]
pub struct ChainWeights {
    format: WeightFormat,
    /// The precision of the activations. Always the default on a GPU.
    precision: MatmulPrecision,
    /// `(out_i, in_<=i)`
    shapes: Vec<(usize, usize)>,
    /// A `Vec<PackedMatrix<W>>` with the W of `format`; on a GPU a `Vec<GpuMatrix>`.
    matrices: Box<dyn Any + Send + Sync>,
}

/// The format in which weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WeightFormat {
    /// Floats in packed panels, for the CPU.
    PackedFloats(DType),
    /// bf16 in packed panels of pairs, for AMX and AVX512-BF16.
    Bf16Pairs,
    /// ggml's quant blocks in packed panels, for the CPU.
    PackedQuantized(GgmlDType),
    /// Floats in row-major matrices, for the CUDA kernels.
    #[cfg(feature = "gpu")]
    RowMajorFloats(DType),
}

impl WeightFormat {
    /// The dtype of x and y.
    pub(crate) fn activation_dtype(self) -> DType {
        match self {
            Self::PackedFloats(_) | Self::Bf16Pairs | Self::PackedQuantized(_) => DType::F32,
            #[cfg(feature = "gpu")]
            Self::RowMajorFloats(dtype) => dtype,
        }
    }
}

/// `for_weight_format!(format, W => body)` evaluates `body` with `W` as the packed rhs type of a CPU format.
macro_rules! for_weight_format {
    ($format:expr, $weights:ident => $body:expr) => {
        match $format {
            $crate::weights::WeightFormat::PackedFloats(dtype) => $crate::cpu::for_dtype!(dtype, T => {
                type $weights = [T; $crate::cpu::gemm::NR];
                $body
            }),
            $crate::weights::WeightFormat::Bf16Pairs => {
                type $weights = $crate::cpu::gemm::Bf16Pairs;
                $body
            }
            $crate::weights::WeightFormat::PackedQuantized(dtype) => {
                $crate::cpu::for_quantized!(dtype, $weights => $body)
            }
            #[cfg(feature = "gpu")]
            $crate::weights::WeightFormat::RowMajorFloats(_) => {
                bail!("x is on the CPU, the weights are on a GPU")
            }
        }
    };
}
pub(crate) use for_weight_format;

/// [`for_weight_format`] for the formats of floats.
macro_rules! for_packed_floats {
    ($format:expr, $weights:ident => $body:expr) => {
        match $format {
            WeightFormat::PackedFloats(dtype) => for_dtype!(dtype, T => {
                type $weights = [T; NR];
                $body
            }),
            WeightFormat::Bf16Pairs => {
                type $weights = Bf16Pairs;
                $body
            }
            format => bail!("{format:?} has no packed floats"),
        }
    };
}

/// W_i and b_i of one chain.
#[derive(Debug)]
pub(crate) struct PackedMatrix<W> {
    pub(crate) panels: RhsPanels<W>,
    /// Empty without a bias.
    pub(crate) bias: Vec<f32>,
}

impl ChainWeights {
    /// From W_i `[out_i, in_<=i]` and, optionally, b_i `[out_i]` per chain, for activations at `precision`. The weights
    /// keep their dtype: f32, bf16 or f16, the same for all chains. On the CPU they are packed into panels; for the CUDA
    /// kernels they stay row-major.
    ///
    /// # Errors
    /// If shapes or dtypes do not match, the device is not supported, or the weights are on a GPU and the precision is not
    /// the default: there, activations have the dtype of the weights. For weights on the CPU, also if `COLM_MAX_CPU_ISA`
    /// is invalid ([`check_isa_limit`](crate::check_isa_limit)).
    pub fn pack_floats(
        chains: &[(Tensor, Option<Tensor>)],
        precision: MatmulPrecision,
    ) -> Result<Self> {
        let dtype = common_dtype(chains.iter().map(|(weight, _)| weight.dtype()))?;
        let shapes = chains.iter().map(|(weight, _)| weight.dims2());
        let shapes = checked_shapes(shapes.collect::<Result<_>>()?)?;
        let biases = chains.iter().map(|(_, bias)| bias.as_ref());
        check_biases(&shapes, biases)?;
        #[cfg(feature = "gpu")]
        if chains.first().is_some_and(|(weight, _)| crate::cuda::accepts(weight)) {
            if precision != MatmulPrecision::default() {
                bail!(
                    "on a GPU, activations have the dtype of the weights, {dtype:?}, not {precision}"
                );
            }
            let matrices = chains.iter().map(|(w, bias)| GpuMatrix::new(w, bias.as_ref()));
            let matrices = Box::new(matrices.collect::<Result<Vec<_>>>()?);
            return Ok(Self {
                format: WeightFormat::RowMajorFloats(dtype),
                precision,
                shapes,
                matrices,
            });
        }
        let format = if dtype == DType::BF16 && multiplies_bf16(TileOperand::Weights, precision) {
            WeightFormat::Bf16Pairs
        } else {
            WeightFormat::PackedFloats(dtype)
        };
        let matrices = for_packed_floats!(format, W => {
            matrices(chains.iter().map(|(weight, bias)| {
                Ok((RhsPanels::<W>::pack_floats(weight)?, bias.as_ref()))
            }))
        })?;
        Ok(Self { format, precision, shapes, matrices })
    }

    /// From W_i `[out_i, in_<=i]` per chain, as quantized by ggml: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q5K or Q6K, the
    /// same for all chains; and b_i `[out_i]` per chain, or no biases. Products are those of the dequantized weights with
    /// activations at `precision`.
    ///
    /// # Errors
    /// If shapes or types do not match, the type is not supported, or `COLM_MAX_CPU_ISA` is invalid
    /// ([`check_isa_limit`](crate::check_isa_limit)).
    pub fn pack_quantized(
        chains: &[QTensor],
        biases: &[Tensor],
        precision: MatmulPrecision,
    ) -> Result<Self> {
        let dtype = common_dtype(chains.iter().map(QTensor::dtype))?;
        let shapes = chains.iter().map(|weight| weight.shape().dims2());
        let shapes = checked_shapes(shapes.collect::<Result<_>>()?)?;
        if ![0, chains.len()].contains(&biases.len()) {
            bail!("{} biases for {} chains", biases.len(), chains.len());
        }
        check_biases(&shapes, biases.iter().map(Some))?;
        let matrices = for_quantized!(dtype, W => {
            matrices(chains.iter().enumerate().map(|(i, weight)| {
                Ok((RhsPanels::<W>::pack_quantized(weight)?, biases.get(i)))
            }))
        })?;
        Ok(Self { format: WeightFormat::PackedQuantized(dtype), precision, shapes, matrices })
    }

    /// As [`Self::pack_floats`], quantized to `dtype`, one of the types of [`Self::pack_quantized`]. The chains may have
    /// different dtypes. The result is the same as that of `QTensor::quantize`; a panel is quantized at a time, on all
    /// threads, so that little more memory is used than the result takes. Weights are on the CPU.
    ///
    /// # Errors
    /// If shapes do not match, the inputs of a chain are not a multiple of the type's quant block, the type is not
    /// supported, or `COLM_MAX_CPU_ISA` is invalid ([`check_isa_limit`](crate::check_isa_limit)).
    pub fn quantize(
        chains: &[(Tensor, Option<Tensor>)],
        dtype: GgmlDType,
        precision: MatmulPrecision,
    ) -> Result<Self> {
        if chains.is_empty() {
            bail!("a linear layer of no chains");
        }
        let shapes = chains.iter().map(|(weight, _)| weight.dims2());
        let shapes = checked_shapes(shapes.collect::<Result<_>>()?)?;
        check_biases(&shapes, chains.iter().map(|(_, bias)| bias.as_ref()))?;
        let matrices = for_quantized!(dtype, W => {
            matrices(chains.iter().map(|(weight, bias)| {
                Ok((RhsPanels::<W>::quantize(weight)?, bias.as_ref()))
            }))
        })?;
        Ok(Self { format: WeightFormat::PackedQuantized(dtype), precision, shapes, matrices })
    }

    /// The weights, and the biases in their dtype (f32 if the weights are quantized).
    ///
    /// # Errors
    /// If the tensors cannot be allocated.
    pub fn unpack(&self) -> Result<Unpacked> {
        match self.format {
            format @ (WeightFormat::PackedFloats(_) | WeightFormat::Bf16Pairs) => {
                for_packed_floats!(format, W => unpack_floats::<W>(self.matrices()?))
                    .map(Unpacked::Floats)
            }
            WeightFormat::PackedQuantized(dtype) => {
                for_quantized!(dtype, W => unpack_quantized(self.matrices::<W>()?))
                    .map(Unpacked::Quantized)
            }
            #[cfg(feature = "gpu")]
            WeightFormat::RowMajorFloats(_) => {
                let matrices = self.gpu_matrices()?.iter().map(GpuMatrix::unpack);
                matrices.collect::<Result<_>>().map(Unpacked::Floats)
            }
        }
    }

    /// Whether `other` has the same format, dtype and precision of activations. Only such weights can share a call of
    /// [`chain_linear`](crate::chain_linear).
    pub fn has_same_format(&self, other: &Self) -> bool {
        self.format == other.format && self.precision == other.precision
    }

    pub(crate) fn precision(&self) -> MatmulPrecision {
        self.precision
    }

    pub(crate) fn format(&self) -> WeightFormat {
        self.format
    }

    /// `(out_i, in_<=i)` of every chain that has an output.
    pub fn shapes(&self) -> &[(usize, usize)] {
        &self.shapes
    }

    /// Rows of the weight of `chain`, `[rows.len(), in_<=i]` in the dtype of activations: the lookup of an embedding
    /// that is tied to the head.
    ///
    /// # Errors
    /// If there is no such row or the weights are quantized.
    ///
    /// # Panics
    /// If there is no such chain.
    pub fn rows(&self, chain: usize, rows: &[u32]) -> Result<Tensor> {
        let (outputs, inputs) = self.shapes[chain];
        if let Some(row) = rows.iter().find(|&&row| row as usize >= outputs) {
            bail!("row {row} of a matrix of {outputs} rows");
        }
        #[cfg(feature = "gpu")]
        if let WeightFormat::RowMajorFloats(_) = self.format {
            let weight = self.gpu_matrices()?[chain].weight()?;
            return weight.index_select(&Tensor::new(rows, weight.device())?, 0);
        }
        if let WeightFormat::PackedQuantized(_) = self.format {
            bail!("an embedding cannot be quantized")
        }
        let mut numbers = vec![0.0; rows.len() * inputs];
        for_packed_floats!(self.format, W => {
            let panels = &self.matrices::<W>()?[chain].panels;
            for (to, &row) in numbers.chunks_exact_mut(inputs).zip(rows) {
                for (to, from) in to.iter_mut().zip(panels.row(row as usize)) {
                    *to = from.wide();
                }
            }
            Ok(())
        })?;
        Tensor::from_vec(numbers, (rows.len(), inputs), &Device::Cpu)
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn gpu_matrices(&self) -> Result<&[GpuMatrix]> {
        match self.matrices.downcast_ref::<Vec<GpuMatrix>>() {
            Some(matrices) => Ok(matrices),
            None => bail!("x is on a GPU, the weights are on the CPU"),
        }
    }

    pub(crate) fn matrices<W: PackedRhs + 'static>(&self) -> Result<&[PackedMatrix<W>]> {
        match self.matrices.downcast_ref::<Vec<PackedMatrix<W>>>() {
            Some(matrices) => Ok(matrices),
            None => bail!("layers that read the same x must have weights of one format"),
        }
    }
}

/// The result of [`ChainWeights::unpack`]: per chain W_i and b_i.
#[derive(Debug)]
pub enum Unpacked {
    /// From [`ChainWeights::pack_floats`]: W_i `[out_i, in_<=i]` and b_i `[out_i]`.
    Floats(Vec<(Tensor, Option<Tensor>)>),
    /// From [`ChainWeights::pack_quantized`]: W_i `[out_i, in_<=i]` and b_i `[out_i]`.
    Quantized(Vec<(QTensor, Option<Tensor>)>),
}

/// The dtype of the weights of all chains.
fn common_dtype<D: Copy + Debug + PartialEq>(mut dtypes: impl Iterator<Item = D>) -> Result<D> {
    let Some(dtype) = dtypes.next() else { bail!("a linear layer of no chains") };
    match dtypes.find(|&other| other != dtype) {
        Some(other) => bail!("weights of {dtype:?} and of {other:?} in one layer"),
        None => Ok(dtype),
    }
}

/// Fails unless every chain reads at least the inputs of the chain before it.
fn checked_shapes(shapes: Vec<(usize, usize)>) -> Result<Vec<(usize, usize)>> {
    if !shapes.is_sorted_by_key(|shape| shape.1) {
        bail!("{shapes:?}: every chain must read at least the inputs of the chain before it");
    }
    Ok(shapes)
}

/// Fails unless each bias has one number per output.
fn check_biases<'a>(
    shapes: &[(usize, usize)],
    biases: impl Iterator<Item = Option<&'a Tensor>>,
) -> Result<()> {
    for (chain, (bias, &(outputs, _))) in biases.zip(shapes).enumerate() {
        if let Some(bias) = bias.filter(|bias| bias.dims() != [outputs]) {
            bail!(
                "chain {} has {outputs} outputs and a bias of another shape, {:?}",
                chain + 1,
                bias.dims()
            );
        }
    }
    Ok(())
}

/// The matrices of all chains, as [`ChainWeights`] keeps them.
fn matrices<'a, W: Send + Sync + 'static>(
    chains: impl Iterator<Item = Result<(RhsPanels<W>, Option<&'a Tensor>)>>,
) -> Result<Box<dyn Any + Send + Sync>> {
    check_isa_limit().map_err(candle_core::Error::wrap)?;
    let matrices = chains.map(|chain| {
        let (panels, bias) = chain?;
        // f32, because it is added to sums in f32.
        let bias = match bias {
            Some(bias) => bias.to_dtype(DType::F32)?.to_vec1()?,
            None => Vec::new(),
        };
        Ok(PackedMatrix { panels, bias })
    });
    Ok(Box::new(matrices.collect::<Result<Vec<_>>>()?))
}

fn unpack_floats<W: PackedFloats>(
    matrices: &[PackedMatrix<W>],
) -> Result<Vec<(Tensor, Option<Tensor>)>> {
    let unpacked = matrices.iter().map(|PackedMatrix { panels, bias }| {
        let shape = (panels.outputs(), panels.inputs());
        let rows: Vec<W::Number> = (0..shape.0).flat_map(|output| panels.row(output)).collect();
        let weight = Tensor::from_vec(rows, shape, &Device::Cpu)?;
        Ok((weight, bias_tensor(bias, W::Number::DTYPE)?))
    });
    unpacked.collect()
}

/// b_i; None for a chain without a bias.
fn bias_tensor(bias: &[f32], dtype: DType) -> Result<Option<Tensor>> {
    let bias = (!bias.is_empty()).then(|| Tensor::new(bias, &Device::Cpu)?.to_dtype(dtype));
    bias.transpose()
}

fn unpack_quantized<W: Quantized>(
    matrices: &[PackedMatrix<W>],
) -> Result<Vec<(QTensor, Option<Tensor>)>> {
    let unpacked = matrices.iter().map(|PackedMatrix { panels, bias }| {
        let bytes = panels.unpack();
        // Borrowed: candle 0.10 reads an owned Cow after dropping it.
        let bytes = Cow::Borrowed(&bytes[..]);
        let storage = QStorage::from_data(bytes, &Device::Cpu, W::DTYPE)?;
        let weight = QTensor::new(storage, (panels.outputs(), panels.inputs()))?;
        Ok((weight, bias_tensor(bias, DType::F32)?))
    });
    unpacked.collect()
}
