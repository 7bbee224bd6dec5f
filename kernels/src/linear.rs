//! The linear layers: all chains of a layer in one call.

use std::ops::Range;

use candle_core::{bail, Result, Tensor};

use crate::cpu::outer::Right;
use crate::cpu::panels::outputs_of;
use crate::cpu::product::{multiply, Product, Unit};
use crate::cpu::rectangles::Rectangles;
use crate::cpu::rows::{all_dense, hold, rows_of};
use crate::cpu::tiles::Tiles;
use crate::cpu::Rows;
#[cfg(feature = "gpu")]
use crate::weights::Held;
use crate::weights::{for_held, Block, ChainWeights};
use crate::ChainRows;

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
    if gate.shapes() != up.shapes() {
        bail!(
            "gate and up must have the same shapes, not {:?} and {:?}",
            gate.shapes(),
            up.shapes()
        );
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
        of.min(self.weights.shapes().len())
    }

    fn check(&self, widths: &[usize], rows: &ChainRows) -> Result<()> {
        let mut inputs = 0;
        for (chain, (&width, &(outputs, expected))) in
            widths.iter().zip(self.weights.shapes()).enumerate()
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
    let expected = first.weights.held().activations();
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
    #[cfg(feature = "gpu")]
    if let Held::Gpu(_) = first.weights.held() {
        return crate::cuda::chain_linear(x, rows, layers);
    }
    for_held!(first.weights.held(), W => forward_in::<W>(x, rows, layers))
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
    let outs: Vec<Vec<Rectangles>> = layers
        .iter()
        .zip(&chains)
        .map(|(layer, &chains)| {
            let shapes = layer.weights.shapes()[..chains].iter().enumerate();
            shapes.map(|(chain, shape)| Rectangles::new(rows.count(chain), shape.0)).collect()
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

    let tensors = outs.into_iter().zip(layers).map(|(outs, layer)| {
        let chains = outs.into_iter().zip(layer.weights.shapes()).enumerate();
        let tensors = chains.map(|(chain, (out, &(outputs, _)))| {
            // SAFETY: every chain is in a group, all its panels are units, and all units were computed of all
            // rows.
            unsafe { out.filled((rows.count(chain), outputs)) }
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
        out: &'a Rectangles,
        units: &mut Vec<Unit<'a, W>>,
    ) -> Result<()> {
        let block = &self.weights.blocks::<W>()?[chain];
        let up = self.up.map(|up| up.blocks::<W>()).transpose()?.map(|blocks| &blocks[chain]);
        let mut up_panels = up.map(|up| up.panels.iter());
        for (index, panel) in block.panels.iter().enumerate() {
            let columns = outputs_of(index, block.panels.outputs());
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
