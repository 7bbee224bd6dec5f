//! A hidden vector as a chain of representations (docs/spec.md#chains).

use candle_core::{Device, Result, Tensor};

use super::active_rows::ActiveRows;

/// x = [x_1 .. x_k]: per chain i a tensor `[rows chain i is active on, width_i]`.
#[derive(Clone, Debug)]
pub struct Representation {
    chains: Vec<Tensor>,
}

impl Representation {
    /// From the tensors of chains 1, 2, ..
    pub fn new(chains: Vec<Tensor>) -> Self {
        Self { chains }
    }

    /// The tensors, chain by chain.
    pub fn chains(&self) -> &[Tensor] {
        &self.chains
    }

    /// The sum with `other`, chain by chain.
    pub fn add(&self, other: &Self) -> Result<Self> {
        let sums = self.chains.iter().zip(&other.chains).map(|(x, y)| x + y);
        Ok(Self::new(sums.collect::<Result<_>>()?))
    }

    /// The same on `device`. Tensors that are already there are not copied.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let chains = self.chains.iter().map(|x| x.to_device(device));
        Ok(Self::new(chains.collect::<Result<_>>()?))
    }

    /// The rows of `narrower`, which are some of `rows`, the rows of this representation.
    pub fn select(&self, rows: &ActiveRows, narrower: &ActiveRows) -> Result<Self> {
        let chains = self.chains.iter().take(narrower.chain_count()).enumerate();
        let selected = chains.map(|(i, x)| rows.select(i, narrower, i, x));
        Ok(Self::new(selected.collect::<Result<_>>()?))
    }

    /// x_<=i for every chain i, `[rows chain i is active on, width_<=i]`: the input of a matrix product that
    /// computes a single chain.
    pub fn prefixes(&self, rows: &ActiveRows) -> Result<Vec<Tensor>> {
        let mut prefixes: Vec<Tensor> = Vec::with_capacity(self.chains.len());
        for (i, x) in self.chains.iter().enumerate() {
            let prefix = match i.checked_sub(1) {
                None => x.clone(),
                Some(below) => {
                    let lower = rows.select(below, rows, i, &prefixes[below])?;
                    Tensor::cat(&[&lower, x], 1)?
                }
            };
            prefixes.push(prefix);
        }
        Ok(prefixes)
    }
}
