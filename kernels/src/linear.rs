//! The linear layers: all chains of a layer in one call.

use std::any::Any;
use std::borrow::Cow;
use std::ops::Range;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{bail, DType, Device, Result, Tensor};

use crate::cpu::outer::{Right, COLUMNS};
use crate::cpu::panels::Panels;
use crate::cpu::product::{multiply, Product, Unit};
use crate::cpu::q8::Q8;
use crate::cpu::rectangles::Rectangles;
use crate::cpu::rows::{all_dense, hold, rows_of};
use crate::cpu::tiles::Tiles;
use crate::cpu::{for_dtype, Element, Rows};
#[cfg(feature = "cuda")]
use crate::cuda::GpuBlock;
use crate::ChainRows;

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
enum Held {
    Float(DType),
    /// ggml's q8_0.
    Q8,
    /// In a GPU's memory, as they are stored.
    #[cfg(feature = "cuda")]
    Gpu(DType),
}

impl Held {
    /// The dtype of x and y.
    fn activations(self) -> DType {
        match self {
            Self::Float(_) | Self::Q8 => DType::F32,
            #[cfg(feature = "cuda")]
            Self::Gpu(dtype) => dtype,
        }
    }
}

/// `for_held!(held, W => body)` is `body` with W standing for the weights of a panel.
macro_rules! for_held {
    ($held:expr, $weights:ident => $body:expr) => {
        match $held {
            Held::Float(dtype) => for_dtype!(dtype, T => {
                type $weights = [T; COLUMNS];
                $body
            }),
            Held::Q8 => {
                type $weights = Q8;
                $body
            }
            #[cfg(feature = "cuda")]
            Held::Gpu(_) => bail!("x is in host memory, the weights are in a GPU's"),
        }
    };
}

#[derive(Debug)]
struct Block<W> {
    panels: Panels<W>,
    bias: Vec<f32>,
}

impl ChainWeights {
    /// Packs W_i of `[out_i, in_<=i]` and, where there are biases, b_i of `[out_i]`. The weights keep
    /// their dtype: f32, bf16 or f16, the same for all.
    ///
    /// Fails if shapes or dtypes do not belong together or a tensor is not in host memory.
    pub fn pack(blocks: &[(Tensor, Option<Tensor>)]) -> Result<Self> {
        let Some((first, _)) = blocks.first() else { bail!("a linear layer of no chains") };
        let dtype = first.dtype();
        if let Some(other) = blocks.iter().map(|(weight, _)| weight.dtype()).find(|&d| d != dtype) {
            bail!("weights of {dtype:?} and of {other:?} in one layer");
        }
        let shapes = blocks.iter().map(|(weight, _)| weight.dims2());
        let shapes = checked(shapes.collect::<Result<_>>()?)?;
        for ((_, bias), shape) in blocks.iter().zip(&shapes) {
            if bias.as_ref().is_some_and(|bias| bias.dims() != [shape.0]) {
                bail!("a chain has {} outputs and a bias of another shape", shape.0);
            }
        }
        #[cfg(feature = "cuda")]
        if crate::cuda::has(first) {
            let blocks: Vec<GpuBlock> = blocks.to_vec();
            return Ok(Self { held: Held::Gpu(dtype), shapes, blocks: Box::new(blocks) });
        }
        let blocks = for_dtype!(dtype, T => pack_blocks::<T>(blocks))?;
        Ok(Self { held: Held::Float(dtype), shapes, blocks })
    }

    /// Packs W_i quantized to q8_0. Products are those of the dequantized weights, with f32 inputs.
    ///
    /// Fails if shapes do not belong together or a tensor is of another type.
    pub fn pack_q8_0(blocks: &[QTensor]) -> Result<Self> {
        if let Some(other) = blocks.iter().map(QTensor::dtype).find(|&d| d != GgmlDType::Q8_0) {
            bail!("weights of {other:?} among those of Q8_0");
        }
        let shapes = blocks.iter().map(|block| block.shape().dims2());
        let shapes = checked(shapes.collect::<Result<_>>()?)?;
        let blocks = blocks
            .iter()
            .map(|block| Ok(Block { panels: Panels::<Q8>::pack(block)?, bias: Vec::new() }));
        let blocks = Box::new(blocks.collect::<Result<Vec<_>>>()?);
        Ok(Self { held: Held::Q8, shapes, blocks })
    }

    /// The weights and biases again, as they were packed.
    pub fn unpack(&self) -> Result<Unpacked> {
        match self.held {
            Held::Float(dtype) => {
                for_dtype!(dtype, T => unpack_blocks(self.blocks::<[T; COLUMNS]>()?))
                    .map(Unpacked::Floats)
            }
            Held::Q8 => {
                let blocks = self.blocks::<Q8>()?.iter().zip(&self.shapes).map(|(block, shape)| {
                    let bytes = block.panels.unpack();
                    // Borrowed: candle 0.10 copies from an owned Cow after it has dropped it.
                    let bytes = Cow::Borrowed(&bytes[..]);
                    let storage = QStorage::from_data(bytes, &Device::Cpu, GgmlDType::Q8_0)?;
                    QTensor::new(storage, *shape)
                });
                blocks.collect::<Result<_>>().map(Unpacked::Q8_0)
            }
            #[cfg(feature = "cuda")]
            Held::Gpu(_) => Ok(Unpacked::Floats(self.gpu_blocks()?.to_vec())),
        }
    }

    /// Whether `other` holds its weights in the same form: only such layers go into one call.
    pub fn held_like(&self, other: &Self) -> bool {
        self.held == other.held
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
        #[cfg(feature = "cuda")]
        if let Held::Gpu(_) = self.held {
            let (weight, _) = &self.gpu_blocks()?[chain];
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

    #[cfg(feature = "cuda")]
    pub(crate) fn gpu_blocks(&self) -> Result<&[GpuBlock]> {
        match self.blocks.downcast_ref::<Vec<GpuBlock>>() {
            Some(blocks) => Ok(blocks),
            None => bail!("x is in a GPU's memory, the weights are in the host's"),
        }
    }

    fn blocks<W: Right + 'static>(&self) -> Result<&[Block<W>]> {
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
    /// From [`ChainWeights::pack_q8_0`].
    Q8_0(Vec<QTensor>),
}

/// Every chain reads at least what the chain below it reads.
fn checked(shapes: Vec<(usize, usize)>) -> Result<Vec<(usize, usize)>> {
    if shapes.is_empty() {
        bail!("a linear layer of no chains");
    }
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

/// y_i = W_i x_<=i + b_i for every chain i that `x` and the weights have, and for every one of several
/// layers that read the same `x` (SPEC 2: q, k and v).
///
/// `x` is per chain `[rows of the chain, width]`, f32 in host memory and of the weights' dtype on a GPU;
/// `rows` says which rows these are. Returns per layer and chain `[rows of the chain, out_i]` of the
/// dtype of x.
pub fn chain_linear(
    x: &[Tensor],
    rows: &ChainRows,
    layers: &[&ChainWeights],
) -> Result<Vec<Vec<Tensor>>> {
    let layers: Vec<_> = layers.iter().map(|weights| Layer::plain(weights)).collect();
    forward(x, rows, &layers)
}

/// `residual + W x`, chain by chain: [`chain_linear`] of one layer, added to `residual` of the shape
/// of the result.
pub fn chain_linear_add(
    x: &[Tensor],
    rows: &ChainRows,
    weights: &ChainWeights,
    residual: &[Tensor],
) -> Result<Vec<Tensor>> {
    let layer = Layer { residual: Some(residual), ..Layer::plain(weights) };
    Ok(forward(x, rows, &[layer])?.remove(0))
}

/// `silu(gate x) * up x`, chain by chain: two layers of the same shape, and the activation of SPEC 2's
/// MLP on what they give.
pub fn chain_gated(
    x: &[Tensor],
    rows: &ChainRows,
    gate: &ChainWeights,
    up: &ChainWeights,
) -> Result<Vec<Tensor>> {
    if gate.shapes != up.shapes {
        bail!("gate and up must have the same shapes, not {:?} and {:?}", gate.shapes, up.shapes);
    }
    let layer = Layer { up: Some(up), ..Layer::plain(gate) };
    Ok(forward(x, rows, &[layer])?.remove(0))
}

/// A layer, and what becomes of its products.
pub(crate) struct Layer<'a> {
    pub(crate) weights: &'a ChainWeights,
    pub(crate) up: Option<&'a ChainWeights>,
    pub(crate) residual: Option<&'a [Tensor]>,
}

impl<'a> Layer<'a> {
    fn plain(weights: &'a ChainWeights) -> Self {
        Self { weights, up: None, residual: None }
    }

    /// How many of the chains of x have an output.
    fn chains(&self, of: usize) -> usize {
        of.min(self.weights.shapes.len())
    }

    fn check(&self, widths: &[usize], rows: &ChainRows) -> Result<()> {
        let mut inputs = 0;
        for (chain, (&width, &(outputs, expected))) in
            widths.iter().zip(&self.weights.shapes).enumerate()
        {
            inputs += width;
            if inputs != expected {
                bail!("chain {chain} reads {expected} inputs, x_<=i has {inputs}");
            }
            if let Some(residual) = self.residual {
                let found = residual.get(chain).map(Tensor::dims);
                if found != Some(&[rows.count(chain), outputs]) {
                    bail!(
                        "chain {chain} has [rows, outputs] = {:?}, and is to be added to {found:?}",
                        [rows.count(chain), outputs]
                    );
                }
            }
        }
        Ok(())
    }
}

fn forward(x: &[Tensor], rows: &ChainRows, layers: &[Layer]) -> Result<Vec<Vec<Tensor>>> {
    let Some(first) = layers.first() else { return Ok(Vec::new()) };
    let expected = first.weights.held.activations();
    let widths = x.iter().enumerate().map(|(chain, x)| match x.dims() {
        _ if x.dtype() != expected => {
            bail!("chain {chain} has x of {}, not {}", x.dtype().as_str(), expected.as_str())
        }
        &[count, width] if chain < rows.chains() && count == rows.count(chain) => Ok(width),
        dims => bail!("chain {chain} has x {dims:?}; expected [its rows, width]"),
    });
    let widths = widths.collect::<Result<Vec<_>>>()?;
    for layer in layers {
        layer.check(&widths, rows)?;
    }
    #[cfg(feature = "cuda")]
    if let Held::Gpu(_) = first.weights.held {
        return crate::cuda::chain_linear(x, rows, layers);
    }
    for_held!(first.weights.held, W => forward_in::<W>(x, rows, layers))
}

fn forward_in<W: Right + Sync + 'static>(
    x: &[Tensor],
    rows: &ChainRows,
    layers: &[Layer],
) -> Result<Vec<Vec<Tensor>>> {
    let x = all_dense(x)?;
    let held = hold(&x);
    let x = rows_of(&held)?;
    let residuals = layers.iter().map(|layer| all_dense(layer.residual.unwrap_or(&[])));
    let residuals = residuals.collect::<Result<Vec<_>>>()?;
    let held: Vec<_> = residuals.iter().map(|residual| hold(residual)).collect();
    let residuals = held.iter().map(|held| rows_of(held)).collect::<Result<Vec<_>>>()?;

    let chains: Vec<usize> = layers.iter().map(|layer| layer.chains(x.len())).collect();
    let size = |layer: &Layer, chain: usize| rows.count(chain) * layer.weights.shapes[chain].0;
    let mut numbers: Vec<Vec<Vec<f32>>> = layers
        .iter()
        .zip(&chains)
        .map(|(layer, &chains)| (0..chains).map(|chain| vec![0.0; size(layer, chain)]).collect())
        .collect();
    let outs: Vec<Vec<Rectangles>> = layers
        .iter()
        .zip(&mut numbers)
        .map(|(layer, numbers)| {
            let outs = numbers.iter_mut().zip(&layer.weights.shapes);
            outs.map(|(numbers, shape)| Rectangles::new(numbers, shape.0)).collect()
        })
        .collect();

    let most = chains.iter().copied().max().unwrap_or(0);
    let mut products = Vec::new();
    for group in rows.groups(most) {
        let mut units = Vec::new();
        let mut last = group.start;
        for (index, layer) in layers.iter().enumerate() {
            let outs = outs[index].iter().enumerate();
            for (chain, out) in outs.take(group.end).skip(group.start) {
                last = last.max(chain);
                let plus = residuals[index].get(chain);
                layer.units::<W>(chain, plus, out, &mut units)?;
            }
        }
        products.push(Product { tiles: Tiles::gather(&x, rows, last), units });
    }
    multiply(&products);
    drop(products);
    drop(outs);

    let tensors = numbers.into_iter().zip(layers).map(|(numbers, layer)| {
        let chains = numbers.into_iter().zip(&layer.weights.shapes).enumerate();
        let tensors = chains.map(|(chain, (numbers, &(outputs, _)))| {
            Tensor::from_vec(numbers, (rows.count(chain), outputs), &Device::Cpu)
        });
        tensors.collect()
    });
    tensors.collect()
}

impl Layer<'_> {
    /// The panels of `chain`, in order.
    fn units<'a, W: Right + 'static>(
        &'a self,
        chain: usize,
        plus: Option<&'a Rows<'a, f32>>,
        out: &'a Rectangles<'a>,
        units: &mut Vec<Unit<'a, W>>,
    ) -> Result<()> {
        let block = &self.weights.blocks::<W>()?[chain];
        let up = self.up.map(|up| up.blocks::<W>()).transpose()?.map(|blocks| &blocks[chain]);
        let mut up_panels = up.map(|up| up.panels.iter());
        for (index, panel) in block.panels.iter().enumerate() {
            let columns = index * COLUMNS..block.panels.outputs().min((index + 1) * COLUMNS);
            let bias = |block: &'a Block<W>| bias_of(&block.bias, &columns);
            let up_panel = up_panels.as_mut().and_then(Iterator::next);
            units.push(Unit {
                panel,
                bias: bias(block),
                up: up_panel.zip(up.map(bias)),
                plus,
                out,
                columns,
            });
        }
        Ok(())
    }
}

fn bias_of<'a>(bias: &'a [f32], columns: &Range<usize>) -> &'a [f32] {
    bias.get(columns.clone()).unwrap_or_default()
}
