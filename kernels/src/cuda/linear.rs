//! The linear layers on a GPU, where weights stay as they are stored.

use candle_core::{Device, Result, Tensor};
use colm_cuda::{LinearInput, LinearProduct};

use super::{as_u32, remembered};
use crate::linear::Layer;
use crate::ChainRows;

/// W_i and b_i of one chain.
pub(crate) type GpuBlock = (Tensor, Option<Tensor>);

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
    let mut products = Vec::new();
    for layer in layers {
        let blocks = layer.weights.gpu_blocks()?;
        let up = layer.up.map(|up| up.gpu_blocks()).transpose()?;
        for (chain, (weight, bias)) in blocks.iter().enumerate().take(x.len()) {
            let up = up.map(|up| &up[chain]);
            products.push(LinearProduct {
                chain,
                weight,
                bias: bias.as_ref(),
                up: up.map(|(weight, _)| weight),
                up_bias: up.and_then(|(_, bias)| bias.as_ref()),
                residual: layer.residual.and_then(|residual| residual.get(chain)),
            });
        }
    }
    let mut outs = colm_cuda::chain_linear(&inputs, &products)?.into_iter();
    let chains = |layer: &Layer| layer.weights.shapes().len().min(x.len());
    Ok(layers.iter().map(|layer| outs.by_ref().take(chains(layer)).collect()).collect())
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
