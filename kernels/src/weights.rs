//! The weights of the linear layers, packed.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{bail, DType, Device, Result, Tensor};

use crate::cpu::outer::{Right, COLUMNS};
use crate::cpu::panels::Panels;
use crate::cpu::{for_dtype, for_quantized, Element, Quantized};
#[cfg(feature = "gpu")]
use crate::cuda::GpuBlock;

/// The weights of a ChainLinear (SPEC 2), packed for the product: W_i of `[out_i, in_1 + .. + in_i]`
/// for every chain that has an output, chain 1 first. A model of k chains reads the first k.
#[derive(Debug)]
pub struct ChainWeights {
    held: Held,
    /// `[out_i, in_<=i]`
    shapes: Vec<(usize, usize)>,
    /// A `Vec<Block<W>>`, W being what `held` says; on a GPU a `Vec<GpuBlock>`.
    blocks: Box<dyn Any + Send + Sync>,
}

/// What a weight is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Float(DType),
    /// In one of ggml's forms.
    Quantized(GgmlDType),
    /// In a GPU's memory, as they are stored.
    #[cfg(feature = "gpu")]
    Gpu(DType),
}

impl Held {
    /// The dtype of x and y.
    pub(crate) fn activations(self) -> DType {
        match self {
            Self::Float(_) | Self::Quantized(_) => DType::F32,
            #[cfg(feature = "gpu")]
            Self::Gpu(dtype) => dtype,
        }
    }
}

/// `for_held!(held, W => body)` is `body` with W standing for the weights of a panel.
macro_rules! for_held {
    ($held:expr, $weights:ident => $body:expr) => {
        match $held {
            $crate::weights::Held::Float(dtype) => $crate::cpu::for_dtype!(dtype, T => {
                type $weights = [T; $crate::cpu::outer::COLUMNS];
                $body
            }),
            $crate::weights::Held::Quantized(dtype) => {
                $crate::cpu::for_quantized!(dtype, $weights => $body)
            }
            #[cfg(feature = "gpu")]
            $crate::weights::Held::Gpu(_) => {
                bail!("x is in host memory, the weights are in a GPU's")
            }
        }
    };
}
pub(crate) use for_held;

#[derive(Debug)]
pub(crate) struct Block<W> {
    pub(crate) panels: Panels<W>,
    pub(crate) bias: Vec<f32>,
}

impl ChainWeights {
    /// Packs W_i of `[out_i, in_<=i]` and, where there are biases, b_i of `[out_i]`. The weights keep
    /// their dtype: f32, bf16 or f16, the same for all.
    ///
    /// Fails if shapes or dtypes do not belong together or a tensor is not in host memory.
    pub fn pack(blocks: &[(Tensor, Option<Tensor>)]) -> Result<Self> {
        let dtype = the_one(blocks.iter().map(|(weight, _)| weight.dtype()))?;
        let shapes = blocks.iter().map(|(weight, _)| weight.dims2());
        let shapes = checked(shapes.collect::<Result<_>>()?)?;
        for ((_, bias), shape) in blocks.iter().zip(&shapes) {
            if bias.as_ref().is_some_and(|bias| bias.dims() != [shape.0]) {
                bail!("a chain has {} outputs and a bias of another shape", shape.0);
            }
        }
        #[cfg(feature = "gpu")]
        if blocks.first().is_some_and(|(weight, _)| crate::cuda::has(weight)) {
            let blocks = blocks.iter().map(|(w, bias)| GpuBlock::pack(w, bias.as_ref()));
            let blocks = blocks.collect::<Result<Vec<_>>>()?;
            return Ok(Self { held: Held::Gpu(dtype), shapes, blocks: Box::new(blocks) });
        }
        let blocks = for_dtype!(dtype, T => pack_blocks::<T>(blocks))?;
        Ok(Self { held: Held::Float(dtype), shapes, blocks })
    }

    /// Packs W_i as ggml quantizes them: to Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q5K or Q6K, the same for all.
    /// Products are those of the dequantized weights, with f32 inputs.
    ///
    /// Fails if shapes or types do not belong together or the type is another.
    pub fn pack_quantized(blocks: &[QTensor]) -> Result<Self> {
        let dtype = the_one(blocks.iter().map(QTensor::dtype))?;
        let shapes = blocks.iter().map(|block| block.shape().dims2());
        let shapes = checked(shapes.collect::<Result<_>>()?)?;
        let blocks = for_quantized!(dtype, W => pack_quantized_blocks::<W>(blocks))?;
        Ok(Self { held: Held::Quantized(dtype), shapes, blocks })
    }

    /// The weights and biases again, as they were packed.
    pub fn unpack(&self) -> Result<Unpacked> {
        match self.held {
            Held::Float(dtype) => {
                for_dtype!(dtype, T => unpack_blocks(self.blocks::<[T; COLUMNS]>()?))
                    .map(Unpacked::Floats)
            }
            Held::Quantized(dtype) => {
                for_quantized!(dtype, W => unpack_quantized_blocks(self.blocks::<W>()?))
                    .map(Unpacked::Quantized)
            }
            #[cfg(feature = "gpu")]
            Held::Gpu(_) => {
                let blocks = self.gpu_blocks()?.iter().map(GpuBlock::unpack);
                blocks.collect::<Result<_>>().map(Unpacked::Floats)
            }
        }
    }

    /// Whether `other` holds its weights in the same form: only such layers go into one call.
    pub fn held_like(&self, other: &Self) -> bool {
        self.held == other.held
    }

    pub(crate) fn held(&self) -> Held {
        self.held
    }

    /// Per chain that has an output, `(out_i, in_<=i)`.
    pub fn shapes(&self) -> &[(usize, usize)] {
        &self.shapes
    }

    /// Of the weights of `chain` the rows named, `[rows, in_<=i]` of x's dtype: an embedding that is
    /// tied to the head.
    ///
    /// Fails if there is no such row.
    pub fn rows(&self, chain: usize, rows: &[u32]) -> Result<Tensor> {
        let (outputs, inputs) = self.shapes[chain];
        if let Some(row) = rows.iter().find(|&&row| row as usize >= outputs) {
            bail!("row {row} of a matrix of {outputs}");
        }
        #[cfg(feature = "gpu")]
        if let Held::Gpu(_) = self.held {
            let weight = self.gpu_blocks()?[chain].weight()?;
            return weight.index_select(&Tensor::new(rows, weight.device())?, 0);
        }
        let Held::Float(dtype) = self.held else { bail!("an embedding is not quantized") };
        let mut numbers = vec![0.0; rows.len() * inputs];
        for_dtype!(dtype, T => {
            let panels = &self.blocks::<[T; COLUMNS]>()?[chain].panels;
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
    pub(crate) fn gpu_blocks(&self) -> Result<&[GpuBlock]> {
        match self.blocks.downcast_ref::<Vec<GpuBlock>>() {
            Some(blocks) => Ok(blocks),
            None => bail!("x is in a GPU's memory, the weights are in the host's"),
        }
    }

    pub(crate) fn blocks<W: Right + 'static>(&self) -> Result<&[Block<W>]> {
        match self.blocks.downcast_ref::<Vec<Block<W>>>() {
            Some(blocks) => Ok(blocks),
            None => bail!("layers that read the same x must hold their weights alike"),
        }
    }
}

/// What [`ChainWeights::unpack`] gives: per chain W_i and b_i.
#[derive(Debug)]
pub enum Unpacked {
    /// From [`ChainWeights::pack`].
    Floats(Vec<(Tensor, Option<Tensor>)>),
    /// From [`ChainWeights::pack_quantized`].
    Quantized(Vec<QTensor>),
}

/// The dtype of the weights of all chains.
fn the_one<D: Copy + Debug + PartialEq>(mut dtypes: impl Iterator<Item = D>) -> Result<D> {
    let Some(dtype) = dtypes.next() else { bail!("a linear layer of no chains") };
    match dtypes.find(|&other| other != dtype) {
        Some(other) => bail!("weights of {dtype:?} and of {other:?} in one layer"),
        None => Ok(dtype),
    }
}

/// Every chain reads at least what the chain below it reads.
fn checked(shapes: Vec<(usize, usize)>) -> Result<Vec<(usize, usize)>> {
    if !shapes.is_sorted_by_key(|shape| shape.1) {
        bail!("{shapes:?}: every chain reads at least the inputs of the chain below it");
    }
    Ok(shapes)
}

fn pack_blocks<T: Element>(
    blocks: &[(Tensor, Option<Tensor>)],
) -> Result<Box<dyn Any + Send + Sync>> {
    let blocks = blocks.iter().map(|(weight, bias)| {
        // The sums are f32, so biases are.
        let bias = match bias {
            Some(bias) => bias.to_dtype(DType::F32)?.to_vec1()?,
            None => Vec::new(),
        };
        Ok(Block { panels: Panels::<[T; COLUMNS]>::pack(weight)?, bias })
    });
    Ok(Box::new(blocks.collect::<Result<Vec<_>>>()?))
}

fn unpack_blocks<T: Element>(
    blocks: &[Block<[T; COLUMNS]>],
) -> Result<Vec<(Tensor, Option<Tensor>)>> {
    let unpacked = blocks.iter().map(|Block { panels, bias }| {
        let shape = (panels.outputs(), panels.inputs());
        let rows: Vec<T> = (0..shape.0).flat_map(|output| panels.row(output)).collect();
        let weight = Tensor::from_vec(rows, shape, &Device::Cpu)?;
        let bias = match bias.is_empty() {
            true => None,
            false => Some(Tensor::new(&bias[..], &Device::Cpu)?.to_dtype(T::DTYPE)?),
        };
        Ok((weight, bias))
    });
    unpacked.collect()
}

fn pack_quantized_blocks<W: Quantized>(blocks: &[QTensor]) -> Result<Box<dyn Any + Send + Sync>> {
    let blocks = blocks.iter().map(|block| {
        let panels = Panels::<W>::pack_quantized(block)?;
        Ok(Block { panels, bias: Vec::new() })
    });
    Ok(Box::new(blocks.collect::<Result<Vec<_>>>()?))
}

fn unpack_quantized_blocks<W: Quantized>(blocks: &[Block<W>]) -> Result<Vec<QTensor>> {
    let unpacked = blocks.iter().map(|Block { panels, .. }| {
        let bytes = panels.unpack();
        // Borrowed: candle 0.10 copies from an owned Cow after it has dropped it.
        let bytes = Cow::Borrowed(&bytes[..]);
        let storage = QStorage::from_data(bytes, &Device::Cpu, W::DTYPE)?;
        QTensor::new(storage, (panels.outputs(), panels.inputs()))
    });
    unpacked.collect()
}
