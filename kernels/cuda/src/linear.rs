//! The linear layers of all chains in one launch (`docs/spec.md#layers`).

use candle_core::{bail, DType, Device, Result, Tensor};

use crate::ffi::linear::{self as ffi, colm_chain_linear};
use crate::limits::MAX_PRODUCTS;
use crate::memory::{
    address, address_or_null, check_chain_count, code_of, empty_parts, int, launched, stream,
};

/// The input of one chain.
#[derive(Clone, Copy, Debug)]
pub struct LinearInput<'a> {
    /// x_i `[rows of the chain, in_i]`
    pub x: &'a Tensor,
    /// u32 `[chain, rows]`: the index of each row of this chain among the rows of every earlier chain. None if all have
    /// the same rows.
    pub row_map: Option<&'a Tensor>,
}

/// One chain of one layer: `residual + W x_<=chain + b`, or with `up` `residual + silu(W x + b) * (U x + c)`.
#[derive(Clone, Copy, Debug)]
pub struct LinearProduct<'a> {
    /// The chain, counted from 0.
    pub chain: usize,
    /// W `[outputs, in_<=chain]`
    pub weight: &'a Tensor,
    /// b `[outputs]`
    pub bias: Option<&'a Tensor>,
    /// U, of the shape of W. Either all products of a call have one, or none.
    pub up: Option<&'a Tensor>,
    /// c `[outputs]`
    pub up_bias: Option<&'a Tensor>,
    /// `[rows of the chain, outputs]`
    pub residual: Option<&'a Tensor>,
}

/// Computes all products. Returns for each `[rows of its chain, outputs]` in the dtype of x. `inputs` are those of all
/// chains, the first chain first.
///
/// The bits of a row depend on the number of rows of its chain only in so far as that number is at most
/// [`MAX_SKINNY_ROWS`](crate::limits::MAX_SKINNY_ROWS) or greater.
///
/// # Errors
/// If a shape or dtype does not fit, if a width or a number of outputs is not a multiple of
/// [`VECTOR`](crate::limits::VECTOR), or if there are too many chains or products.
pub fn chain_linear(inputs: &[LinearInput], products: &[LinearProduct]) -> Result<Vec<Tensor>> {
    let (Some(first), false) = (inputs.first(), products.is_empty()) else { return Ok(Vec::new()) };
    check_chain_count(inputs.len())?;
    if products.len() > MAX_PRODUCTS {
        bail!("{} products: the CUDA kernels support up to {MAX_PRODUCTS}", products.len());
    }
    let (dtype, device) = (first.x.dtype(), first.x.device());
    let mut launch = ffi::ChainLinear::new(code_of(dtype)?);
    for (chain, input) in inputs.iter().enumerate() {
        launch.push_input(input.ffi(chain, dtype, device)?);
    }
    let shapes = products.iter().map(|product| product.check(inputs, dtype));
    let shapes = shapes.collect::<Result<Vec<_>>>()?;
    let outs = empty_parts(shapes.iter().map(|shape| &shape[..]), dtype, device)?;
    for (product, out) in products.iter().zip(&outs) {
        launch.push_product(product.ffi(out, device)?);
    }
    // SAFETY: every address is that of a tensor of the shape and dtype passed to the launcher, checked above. The
    // tensors are freed on the stream of the work. The caller keeps row maps within the rows.
    launched("chain_linear", unsafe { colm_chain_linear(&launch, stream(device)?) })?;
    Ok(outs)
}

impl LinearInput<'_> {
    fn ffi(&self, chain: usize, dtype: DType, device: &Device) -> Result<ffi::LinearInput> {
        let (rows, width) = self.x.dims2()?;
        if self.x.dtype() != dtype {
            bail!("chain {} has x of {:?}, chain 1 of {dtype:?}", chain + 1, self.x.dtype());
        }
        if let Some(row_map) = self.row_map {
            if row_map.dims() != [chain, rows] || row_map.dtype() != DType::U32 {
                bail!(
                    "the row map of chain {} must be u32 of {:?}, not {:?} of {:?}",
                    chain + 1,
                    [chain, rows],
                    row_map.dtype(),
                    row_map.dims()
                );
            }
        }
        Ok(ffi::LinearInput {
            x: address(self.x, device)?,
            row_map: address_or_null(self.row_map, device)?.cast(),
            rows: int(rows)?,
            width: int(width)?,
        })
    }
}

impl LinearProduct<'_> {
    /// Returns the shape of the result.
    fn check(&self, inputs: &[LinearInput], dtype: DType) -> Result<[usize; 2]> {
        let Some(upto) = inputs.get(..=self.chain) else {
            bail!("a product of chain {}, but inputs of {} chains", self.chain + 1, inputs.len());
        };
        let width = upto.iter().map(|input| input.x.dim(1)).sum::<Result<usize>>()?;
        let rows = upto[self.chain].x.dim(0)?;
        let outputs = self.weight.dim(0)?;
        let expected = [
            ("W", Some(self.weight), &[outputs, width][..]),
            ("U", self.up, &[outputs, width]),
            ("b", self.bias, &[outputs]),
            ("c", self.up_bias, &[outputs]),
            ("the residual", self.residual, &[rows, outputs]),
        ];
        for (name, tensor, shape) in expected {
            let Some(tensor) = tensor else { continue };
            if tensor.dims() != shape || tensor.dtype() != dtype {
                bail!(
                    "{name} of chain {} must be {dtype:?} of {shape:?}, not {:?} of {:?}",
                    self.chain + 1,
                    tensor.dtype(),
                    tensor.dims()
                );
            }
        }
        Ok([rows, outputs])
    }

    fn ffi(&self, out: &Tensor, device: &Device) -> Result<ffi::LinearProduct> {
        Ok(ffi::LinearProduct {
            weight: address(self.weight, device)?,
            up: address_or_null(self.up, device)?,
            bias: address_or_null(self.bias, device)?,
            up_bias: address_or_null(self.up_bias, device)?,
            residual: address_or_null(self.residual, device)?,
            y: address(out, device)?,
            chain: int(self.chain)?,
            outputs: int(self.weight.dim(0)?)?,
        })
    }
}
