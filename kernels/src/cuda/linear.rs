//! The linear layers on a GPU. Weights are row-major.

use candle_core::{Device, Result, Tensor};
use colm_cuda::{LinearInput, LinearProduct};

use super::{as_u32, upload_cache};
use crate::device::gpu_limits::VECTOR;
use crate::linear::ChainLinear;
use crate::ChainRows;

/// W_i and b_i of one chain.
#[derive(Debug)]
pub(crate) struct GpuMatrix {
    /// `[outputs, in_<=i]`, with outputs padded by zeros to a multiple of [`VECTOR`].
    weight: Tensor,
    bias: Option<Tensor>,
    outputs: usize,
}

impl GpuMatrix {
    pub(crate) fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let outputs = weight.dim(0)?;
        let pad = |tensor: &Tensor| padded(tensor, 0);
        Ok(Self { weight: pad(weight)?, bias: bias.map(pad).transpose()?, outputs })
    }

    /// W_i without padding.
    pub(crate) fn weight(&self) -> Result<Tensor> {
        self.weight.narrow(0, 0, self.outputs)
    }

    /// W_i and b_i without padding.
    pub(crate) fn unpack(&self) -> Result<(Tensor, Option<Tensor>)> {
        let bias = self.bias.as_ref().map(|bias| bias.narrow(0, 0, self.outputs));
        Ok((self.weight()?, bias.transpose()?))
    }

    /// `[rows, outputs]` of a result, without padding.
    fn strip_padding(&self, y: Tensor) -> Result<Tensor> {
        if y.dim(1)? == self.outputs {
            Ok(y)
        } else {
            y.narrow(1, 0, self.outputs)?.contiguous()
        }
    }
}

/// `tensor`, contiguous, with `dim` padded by zeros to a multiple of [`VECTOR`].
fn padded(tensor: &Tensor, dim: usize) -> Result<Tensor> {
    let width = tensor.dim(dim)?;
    match width.next_multiple_of(VECTOR) - width {
        0 => tensor.contiguous(),
        missing => tensor.pad_with_zeros(dim, 0, missing)?.contiguous(),
    }
}

/// [`crate::chain_linear`] and its variants, with checked arguments.
pub(crate) fn chain_linear(
    x: &[Tensor],
    rows: &ChainRows,
    linears: &[ChainLinear],
) -> Result<Vec<Vec<Tensor>>> {
    let x = x.iter().map(Tensor::contiguous).collect::<Result<Vec<_>>>()?;
    let row_maps = x.iter().enumerate().map(|(chain, x)| row_map(rows, chain, x.device()));
    let row_maps = row_maps.collect::<Result<Vec<_>>>()?;
    let inputs =
        x.iter().zip(&row_maps).map(|(x, row_map)| LinearInput { x, row_map: row_map.as_ref() });
    let inputs: Vec<_> = inputs.collect();
    let linears = linears.iter().map(|linear| GpuChainLinear::of(linear, x.len()));
    let linears = linears.collect::<Result<Vec<_>>>()?;
    let products: Vec<_> = linears.iter().flat_map(GpuChainLinear::products).collect();
    let mut outs = colm_cuda::chain_linear(&inputs, &products)?.into_iter();
    let outs = linears.iter().map(|linear| {
        let matrices = linear.matrices.iter().zip(outs.by_ref());
        matrices.map(|(matrix, out)| matrix.strip_padding(out)).collect()
    });
    outs.collect()
}

/// The matrices of a ChainLinear, for the chains that x has.
struct GpuChainLinear<'a> {
    matrices: &'a [GpuMatrix],
    up: Option<&'a [GpuMatrix]>,
    /// Padded like the outputs.
    residual: Option<Vec<Tensor>>,
}

impl<'a> GpuChainLinear<'a> {
    fn of(linear: &ChainLinear<'a>, chains: usize) -> Result<Self> {
        let matrices = linear.weights.gpu_matrices()?;
        let matrices = &matrices[..matrices.len().min(chains)];
        let residual = linear.residual.map(|residual| {
            let residual = residual.iter().take(matrices.len());
            residual.map(|residual| padded(residual, 1)).collect::<Result<_>>()
        });
        let up = linear.up.map(|up| up.gpu_matrices()).transpose()?;
        Ok(Self { matrices, up, residual: residual.transpose()? })
    }

    fn products(&self) -> impl Iterator<Item = LinearProduct<'_>> {
        self.matrices.iter().enumerate().map(|(chain, matrix)| {
            let up = self.up.map(|up| &up[chain]);
            LinearProduct {
                chain,
                weight: &matrix.weight,
                bias: matrix.bias.as_ref(),
                up: up.map(|up| &up.weight),
                up_bias: up.and_then(|up| up.bias.as_ref()),
                residual: self.residual.as_ref().map(|residual| &residual[chain]),
            }
        })
    }
}

/// The index of each row of `chain` among the rows of every earlier chain, `[chain, rows]`. None if all of them have
/// the same rows.
fn row_map(rows: &ChainRows, chain: usize, device: &Device) -> Result<Option<Tensor>> {
    let count = rows.count(chain);
    if rows.count(0) == count {
        return Ok(None);
    }
    let map =
        (0..chain).flat_map(|earlier| (0..count).map(move |row| rows.row_in(chain, earlier, row)));
    upload_cache::indices(as_u32(map)?, &[chain, count], device).map(Some)
}
