//! The linear layers of all chains in one launch (SPEC 2).

use candle_core::{bail, DType, Device, Result, Tensor};

use crate::ffi::linear::{self as ffi, colm_chain_linear};
use crate::memory::{address, address_or_null, code_of, empty, int, launched, stream};

/// What one chain reads.
#[derive(Clone, Copy, Debug)]
pub struct LinearInput<'a> {
    /// x_i `[rows of the chain, in_i]`
    pub x: &'a Tensor,
    /// `[chain, rows]` of u32: where the rows of this chain stand among those of every chain below it. None:
    /// all have the same rows.
    pub places: Option<&'a Tensor>,
}

/// One chain of one layer: `residual + W x_<=chain + b`, or with `up` `residual + silu(W x + b) * (U x + c)`.
#[derive(Clone, Copy, Debug)]
pub struct LinearProduct<'a> {
    /// From 0.
    pub chain: usize,
    /// W `[outputs, in_<=chain]`
    pub weight: &'a Tensor,
    /// b `[outputs]`
    pub bias: Option<&'a Tensor>,
    /// U, of the shape of W. All products of a call have one, or none.
    pub up: Option<&'a Tensor>,
    /// c `[outputs]`
    pub up_bias: Option<&'a Tensor>,
    /// `[rows of the chain, outputs]`
    pub residual: Option<&'a Tensor>,
}

/// Every product, `[rows of its chain, outputs]` each. `inputs` are those of chains 1, 2, ..
///
/// Widths and outputs are multiples of 8. A row's bits do not depend on how many rows its chain has, up to
/// 32, and above.
pub fn chain_linear(inputs: &[LinearInput], products: &[LinearProduct]) -> Result<Vec<Tensor>> {
    let (Some(first), false) = (inputs.first(), products.is_empty()) else { return Ok(Vec::new()) };
    if inputs.len() > ffi::MAX_CHAINS || products.len() > ffi::MAX_PRODUCTS {
        bail!(
            "{} chains and {} products; the kernels take up to {} and {}",
            inputs.len(),
            products.len(),
            ffi::MAX_CHAINS,
            ffi::MAX_PRODUCTS
        );
    }
    let (dtype, device) = (first.x.dtype(), first.x.device());
    let mut launch = ffi::ChainLinear::new(code_of(dtype)?);
    for (chain, input) in inputs.iter().enumerate() {
        launch.push_input(input.ffi(chain, dtype, device)?);
    }
    let outs = products.iter().map(|product| {
        let rows = product.check(inputs, dtype)?;
        empty(&[rows, product.weight.dim(0)?], dtype, device)
    });
    let outs = outs.collect::<Result<Vec<_>>>()?;
    for (product, out) in products.iter().zip(&outs) {
        launch.push_product(product.ffi(out, device)?);
    }
    // SAFETY: every address is that of a tensor of the shape and dtype the launcher is told, checked above,
    // and the tensors outlive the work: they are freed on its stream.
    launched("chain_linear", unsafe { colm_chain_linear(&launch, stream(device)?) })?;
    Ok(outs)
}

impl LinearInput<'_> {
    fn ffi(&self, chain: usize, dtype: DType, device: &Device) -> Result<ffi::LinearInput> {
        let (rows, width) = self.x.dims2()?;
        if self.x.dtype() != dtype {
            bail!("chain {chain} has x of {:?}, chain 0 of {dtype:?}", self.x.dtype());
        }
        if let Some(places) = self.places {
            if places.dims() != [chain, rows] || places.dtype() != DType::U32 {
                bail!(
                    "the places of chain {chain} must be u32 of {:?}, not {:?} of {:?}",
                    [chain, rows],
                    places.dtype(),
                    places.dims()
                );
            }
        }
        Ok(ffi::LinearInput {
            x: address(self.x, device)?,
            places: address_or_null(self.places, device)?.cast(),
            rows: int(rows)?,
            width: int(width)?,
        })
    }
}

impl LinearProduct<'_> {
    /// Gives the rows of the chain.
    fn check(&self, inputs: &[LinearInput], dtype: DType) -> Result<usize> {
        let Some(upto) = inputs.get(..=self.chain) else {
            bail!("a product of chain {}, and inputs of {} chains", self.chain, inputs.len());
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
                    self.chain,
                    tensor.dtype(),
                    tensor.dims()
                );
            }
        }
        Ok(rows)
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
