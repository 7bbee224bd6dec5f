//! Linear layers: all chains of a layer in one call.

use std::ops::Range;

use candle_core::{bail, Result, Tensor};

use crate::cpu::gemm::lhs::Lhs;
use crate::cpu::gemm::macro_kernel::{gemm, Gemm, OutputPanel};
use crate::cpu::gemm::output::OutputMatrix;
use crate::cpu::gemm::rhs::panel_outputs;
use crate::cpu::gemm::PackedRhs;
use crate::cpu::tensor_rows::{all_contiguous_rows, read_storages, rows_of};
use crate::cpu::TensorRows;
#[cfg(feature = "gpu")]
use crate::weights::WeightFormat;
use crate::weights::{for_weight_format, ChainWeights, PackedMatrix};
use crate::{ChainRows, MatmulPrecision};

/// ChainLinear (`docs/spec.md#layers`) for several linear layers that read the same `x`, as the projections to queries,
/// keys and values do: `y_i = W_i x_<=i + b_i` for every chain i that both `x` and the weights have.
///
/// `x` has per chain `[rows of the chain, in_i]` of the dtype that [`activation_dtype`](crate::activation_dtype) gives:
/// f32 on the CPU. `rows` says which rows these are. Returns per element of `weights` and chain
/// `[rows of the chain, out_i]` of the same dtype.
///
/// # Errors
/// If a shape or dtype does not fit, or if the weights differ in format or in the precision of activations
/// ([`ChainWeights::has_same_format`]).
pub fn chain_linear(
    x: &[Tensor],
    rows: &ChainRows,
    weights: &[&ChainWeights],
) -> Result<Vec<Vec<Tensor>>> {
    let linears: Vec<_> = weights.iter().map(|weights| ChainLinear::plain(weights)).collect();
    forward(x, rows, &linears)
}

/// [`chain_linear`] of one layer plus a residual: `residual_i + W_i x_<=i + b_i`.
///
/// `residual` has per chain the shape and dtype of the result, `[rows of the chain, out_i]`.
///
/// # Errors
/// As for [`chain_linear`], or if the residual has another shape.
pub fn chain_linear_add(
    x: &[Tensor],
    rows: &ChainRows,
    weights: &ChainWeights,
    residual: &[Tensor],
) -> Result<Vec<Tensor>> {
    let linear = ChainLinear { residual: Some(residual), ..ChainLinear::plain(weights) };
    Ok(forward(x, rows, &[linear])?.remove(0))
}

/// The gated half of the MLP (`docs/spec.md#layers`): `silu(gate_i) * up_i`, where `gate_i` and `up_i` are the outputs
/// of two ChainLinear layers of the same shape.
///
/// Arguments and result are as for [`chain_linear`].
///
/// # Errors
/// As for [`chain_linear`], or if the two layers have different shapes.
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
    let linear = ChainLinear { up: Some(up), ..ChainLinear::plain(gate) };
    Ok(forward(x, rows, &[linear])?.remove(0))
}

/// One ChainLinear and its epilogue.
pub(crate) struct ChainLinear<'a> {
    pub(crate) weights: &'a ChainWeights,
    /// The up projection, if `weights` is the gate projection.
    pub(crate) up: Option<&'a ChainWeights>,
    pub(crate) residual: Option<&'a [Tensor]>,
}

impl<'a> ChainLinear<'a> {
    fn plain(weights: &'a ChainWeights) -> Self {
        Self { weights, up: None, residual: None }
    }

    /// The number of chains that have an output, of the `x_chains` chains of x.
    fn output_chains(&self, x_chains: usize) -> usize {
        x_chains.min(self.weights.shapes().len())
    }

    fn check(&self, widths: &[usize], rows: &ChainRows) -> Result<()> {
        let mut inputs = 0;
        for (chain, (&width, &(outputs, expected))) in
            widths.iter().zip(self.weights.shapes()).enumerate()
        {
            inputs += width;
            if inputs != expected {
                bail!("chain {} reads {expected} inputs, but x_<=i has {inputs}", chain + 1);
            }
            if let Some(residual) = self.residual {
                let found = residual.get(chain).map(Tensor::dims);
                if found != Some(&[rows.count(chain), outputs]) {
                    bail!(
                        "chain {} needs a residual of [rows, outputs] = {:?}, not {found:?}",
                        chain + 1,
                        [rows.count(chain), outputs]
                    );
                }
            }
        }
        Ok(())
    }
}

fn forward(x: &[Tensor], rows: &ChainRows, linears: &[ChainLinear]) -> Result<Vec<Vec<Tensor>>> {
    let Some(first) = linears.first().filter(|_| !x.is_empty()) else {
        return Ok(vec![Vec::new(); linears.len()]);
    };
    let format = first.weights.format();
    let expected = format.activation_dtype();
    let widths = x.iter().enumerate().map(|(chain, x)| match x.dims() {
        _ if x.dtype() != expected => {
            let (found, expected) = (x.dtype().as_str(), expected.as_str());
            bail!("chain {} has x of {found}, not {expected}", chain + 1)
        }
        &[count, width] if chain < rows.chain_count() && count == rows.count(chain) => Ok(width),
        dims => bail!("chain {} has x {dims:?}; expected [its rows, width]", chain + 1),
    });
    let widths = widths.collect::<Result<Vec<_>>>()?;
    for linear in linears {
        linear.check(&widths, rows)?;
        let all = [Some(linear.weights), linear.up];
        if all.into_iter().flatten().any(|weights| !weights.has_same_format(first.weights)) {
            bail!("layers that read the same x must have weights of one format and one precision");
        }
    }
    #[cfg(feature = "gpu")]
    if let WeightFormat::RowMajorFloats(_) = format {
        return crate::cuda::chain_linear(x, rows, linears);
    }
    let precision = first.weights.precision();
    for_weight_format!(format, W => forward_packed::<W>(x, rows, linears, precision))
}

/// [`forward`] with weights packed as `W`.
fn forward_packed<W: PackedRhs + Sync + 'static>(
    x: &[Tensor],
    rows: &ChainRows,
    linears: &[ChainLinear],
    precision: MatmulPrecision,
) -> Result<Vec<Vec<Tensor>>> {
    let x = all_contiguous_rows(x)?;
    let guards = read_storages(&x);
    let x = rows_of(&guards)?;
    let residuals =
        linears.iter().map(|linear| all_contiguous_rows(linear.residual.unwrap_or(&[])));
    let residuals = residuals.collect::<Result<Vec<_>>>()?;
    let guards: Vec<_> = residuals.iter().map(|residual| read_storages(residual)).collect();
    let residuals = guards.iter().map(|guards| rows_of(guards)).collect::<Result<Vec<_>>>()?;

    let chain_counts: Vec<usize> =
        linears.iter().map(|linear| linear.output_chains(x.len())).collect();
    let outs: Vec<Vec<OutputMatrix>> = linears
        .iter()
        .zip(&chain_counts)
        .map(|(linear, &chains)| {
            let shapes = linear.weights.shapes()[..chains].iter().enumerate();
            shapes.map(|(chain, shape)| OutputMatrix::new(rows.count(chain), shape.0)).collect()
        })
        .collect();

    // Chains with the same rows share a packed lhs: that of the last of them.
    let max_chains = chain_counts.iter().copied().max().unwrap_or(0);
    let mut products = Vec::new();
    let widths: Vec<usize> = x.iter().map(TensorRows::width).collect();
    for run in shared_lhs_runs::<W>(rows, &widths[..max_chains]) {
        let mut panels = Vec::new();
        let mut last = run.start;
        for (index, linear) in linears.iter().enumerate() {
            let outs = outs[index].iter().enumerate();
            for (chain, out) in outs.take(run.end).skip(run.start) {
                last = last.max(chain);
                let residual = residuals[index].get(chain);
                linear.add_panels::<W>(chain, residual, out, &mut panels)?;
            }
        }
        products.push(Gemm { lhs: Lhs::pack::<W>(&x, rows, last, precision), panels });
    }
    gemm(&products);
    drop(products);

    let tensors = outs.into_iter().zip(linears).map(|(outs, linear)| {
        let chains = outs.into_iter().zip(linear.weights.shapes()).enumerate();
        let tensors = chains.map(|(chain, (out, &(outputs, _)))| {
            // SAFETY: every chain is in a run, the product of the run has all its panels, and `gemm` computes every
            // panel for all rows.
            unsafe { out.into_tensor((rows.count(chain), outputs)) }
        });
        tensors.collect()
    });
    tensors.collect()
}

/// The runs of chains that share a packed lhs: those with the same rows. Padding of a panel reads the inputs of the next
/// chain, with weights of zero, so a chain whose panels are padded is the last of its run: zero times an infinite number
/// is not zero.
fn shared_lhs_runs<W: PackedRhs>(rows: &ChainRows, widths: &[usize]) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    for run in rows.same_row_runs(widths.len()) {
        let mut start = run.start;
        for chain in run.clone() {
            let inputs: usize = widths[..=chain].iter().sum();
            if chain + 1 == run.end || !inputs.is_multiple_of(W::DEPTH_MULTIPLE) {
                runs.push(start..chain + 1);
                start = chain + 1;
            }
        }
    }
    runs
}

impl ChainLinear<'_> {
    /// Adds the panels of `chain`, in order.
    fn add_panels<'a, W: PackedRhs + 'static>(
        &'a self,
        chain: usize,
        residual: Option<&'a TensorRows<'a, f32>>,
        out: &'a OutputMatrix,
        panels: &mut Vec<OutputPanel<'a, W>>,
    ) -> Result<()> {
        let matrix = &self.weights.matrices::<W>()?[chain];
        let up = self.up.map(|up| up.matrices::<W>()).transpose()?.map(|up| &up[chain]);
        let mut up_panels = up.map(|up| up.panels.iter());
        for (index, weights) in matrix.panels.iter().enumerate() {
            let columns = panel_outputs(index, matrix.panels.outputs());
            let bias = |matrix: &'a PackedMatrix<W>| panel_bias(&matrix.bias, &columns);
            let up_panel = up_panels.as_mut().and_then(Iterator::next);
            panels.push(OutputPanel {
                weights,
                bias: bias(matrix),
                up: up_panel.zip(up.map(bias)),
                residual,
                out,
                columns,
            });
        }
        Ok(())
    }
}

/// The bias of a panel's columns; empty without a bias.
fn panel_bias<'a>(bias: &'a [f32], columns: &Range<usize>) -> &'a [f32] {
    bias.get(columns.clone()).unwrap_or_default()
}
