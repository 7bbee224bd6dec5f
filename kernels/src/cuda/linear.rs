//! The linear layers on a GPU, where weights stay as they are stored.

use candle_core::{Device, Result, Tensor};
use colm_cuda::{LinearInput, LinearProduct};

use super::{as_u32, remembered};
use crate::linear::Layer;
use crate::place::GPU_VECTOR;
use crate::ChainRows;

/// W_i and b_i of one chain.
#[derive(Debug)]
pub(crate) struct GpuBlock {
    /// `[outputs, in_<=i]`, with rows of zeros up to a multiple of what the kernels write at once.
    weight: Tensor,
    bias: Option<Tensor>,
    outputs: usize,
}

impl GpuBlock {
    pub(crate) fn pack(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let outputs = weight.dim(0)?;
        let pad = |tensor: &Tensor| padded(tensor, 0);
        Ok(Self { weight: pad(weight)?, bias: bias.map(pad).transpose()?, outputs })
    }

    /// W_i
    pub(crate) fn weight(&self) -> Result<Tensor> {
        self.weight.narrow(0, 0, self.outputs)
    }

    /// W_i and b_i as they were packed.
    pub(crate) fn unpack(&self) -> Result<(Tensor, Option<Tensor>)> {
        let bias = self.bias.as_ref().map(|bias| bias.narrow(0, 0, self.outputs));
        Ok((self.weight()?, bias.transpose()?))
    }

    /// `[rows, outputs]` of what the kernels have written.
    fn outputs(&self, y: Tensor) -> Result<Tensor> {
        match y.dim(1)? == self.outputs {
            true => Ok(y),
            false => y.narrow(1, 0, self.outputs)?.contiguous(),
        }
    }
}

/// `tensor`, contiguous, with zeros up to a multiple of what the kernels write at once.
fn padded(tensor: &Tensor, dim: usize) -> Result<Tensor> {
    let width = tensor.dim(dim)?;
    match width.next_multiple_of(GPU_VECTOR) - width {
        0 => tensor.contiguous(),
        missing => tensor.pad_with_zeros(dim, 0, missing)?.contiguous(),
    }
}

/// Every layer's y_i for the chains that `x` and it have; `x` is of the dtype of the weights, and so is y.
pub(crate) fn chain_linear(
    x: &[Tensor],
    rows: &ChainRows,
    layers: &[Layer],
) -> Result<Vec<Vec<Tensor>>> {
    let x = x.iter().map(Tensor::contiguous).collect::<Result<Vec<_>>>()?;
    let places = x.iter().enumerate().map(|(chain, x)| places(rows, chain, x.device()));
    let places = places.collect::<Result<Vec<_>>>()?;
    let inputs =
        x.iter().zip(&places).map(|(x, places)| LinearInput { x, places: places.as_ref() });
    let inputs: Vec<_> = inputs.collect();
    let layers = layers.iter().map(|layer| GpuLayer::of(layer, x.len()));
    let layers = layers.collect::<Result<Vec<_>>>()?;
    let products: Vec<_> = layers.iter().flat_map(GpuLayer::products).collect();
    let mut outs = colm_cuda::chain_linear(&inputs, &products)?.into_iter();
    let outs = layers.iter().map(|layer| {
        let blocks = layer.blocks.iter().zip(outs.by_ref());
        blocks.map(|(block, out)| block.outputs(out)).collect()
    });
    outs.collect()
}

/// A layer's blocks that have rows.
struct GpuLayer<'a> {
    blocks: &'a [GpuBlock],
    up: Option<&'a [GpuBlock]>,
    /// Of as many columns as the kernels write.
    residual: Option<Vec<Tensor>>,
}

impl<'a> GpuLayer<'a> {
    fn of(layer: &Layer<'a>, chains: usize) -> Result<Self> {
        let blocks = layer.weights.gpu_blocks()?;
        let blocks = &blocks[..blocks.len().min(chains)];
        let residual = layer.residual.map(|residual| {
            let of_blocks = residual.iter().take(blocks.len());
            of_blocks.map(|residual| padded(residual, 1)).collect::<Result<_>>()
        });
        let up = layer.up.map(|up| up.gpu_blocks()).transpose()?;
        Ok(Self { blocks, up, residual: residual.transpose()? })
    }

    fn products(&self) -> impl Iterator<Item = LinearProduct<'_>> {
        self.blocks.iter().enumerate().map(|(chain, block)| {
            let up = self.up.map(|up| &up[chain]);
            LinearProduct {
                chain,
                weight: &block.weight,
                bias: block.bias.as_ref(),
                up: up.map(|up| &up.weight),
                up_bias: up.and_then(|up| up.bias.as_ref()),
                residual: self.residual.as_ref().map(|residual| &residual[chain]),
            }
        })
    }
}

/// Where the rows of `chain` stand among those of every chain below it, `[chain, rows]`. None if all have the
/// same.
fn places(rows: &ChainRows, chain: usize, device: &Device) -> Result<Option<Tensor>> {
    let count = rows.count(chain);
    if rows.count(0) == count {
        return Ok(None);
    }
    let places =
        (0..chain).flat_map(|lower| (0..count).map(move |row| rows.place(chain, lower, row)));
    remembered::counts(as_u32(places)?, &[chain, count], device).map(Some)
}
