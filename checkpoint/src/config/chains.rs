//! The relative sizes of the chains, and widths split by them (`docs/spec.md#chains`).

use std::ops::Range;

use super::chain_count::ChainCount;
use super::error::ConfigError;
use super::limits::{MAX_CHAINS, MAX_SIZE};

/// The relative sizes `[c_1 .. c_n]` of the chains, the field `chains` in config.json.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chains(Vec<usize>);

impl Chains {
    /// The most chains of a model.
    pub const MAX_COUNT: usize = MAX_CHAINS;

    /// Chains of relative sizes `ratios`.
    ///
    /// # Errors
    /// If there is no entry or more than 256, if one is 0, or if their sum exceeds 2^31 - 1.
    pub fn new(ratios: Vec<usize>) -> Result<Self, ConfigError> {
        if ratios.len() > MAX_CHAINS {
            return Err(ConfigError::TooManyChains(ratios.len()));
        }
        if ratios.is_empty() {
            return Err(ConfigError::NoChains);
        }
        if let Some(chain) = ratios.iter().position(|&ratio| ratio == 0) {
            return Err(ConfigError::EmptyChain { chain: chain + 1 });
        }
        let sum = ratios.iter().try_fold(0usize, |sum, &ratio| sum.checked_add(ratio));
        if sum.is_none_or(|sum| sum > MAX_SIZE) {
            return Err(ConfigError::ChainsTooLarge(ratios));
        }
        Ok(Self(ratios))
    }

    /// n, the number of chains, at least 1.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// n as a [`ChainCount`]: all chains of the model.
    pub fn all(&self) -> ChainCount {
        ChainCount::new(self.count(), self.count()).expect("`Chains` is never empty")
    }

    /// 1, 2, .. n: every chain count that the model can be computed at.
    pub fn counts(&self) -> impl Iterator<Item = ChainCount> {
        let n = self.count();
        (1..=n).filter_map(move |k| ChainCount::new(k, n).ok())
    }

    /// The relative sizes as written in config.json.
    pub fn ratios(&self) -> &[usize] {
        &self.0
    }

    /// Splits `width` over the chains in proportion: chain i gets `width * c_i / sum(c)`.
    ///
    /// # Errors
    /// If the share of a chain is not a whole number of at least 1. The error calls the width
    /// `field`.
    pub fn split(&self, field: &'static str, width: usize) -> Result<Split, ConfigError> {
        let sum: usize = self.0.iter().sum();
        let mut bounds = vec![0];
        for (chain, ratio) in self.0.iter().enumerate() {
            let product = width.checked_mul(*ratio).filter(|product| product % sum == 0);
            match product.map(|product| product / sum) {
                Some(share) if share > 0 => bounds.push(bounds[chain] + share),
                _ => {
                    return Err(ConfigError::Indivisible {
                        field,
                        width,
                        chains: self.0.clone(),
                        chain: chain + 1,
                    })
                }
            }
        }
        Ok(Split { bounds })
    }
}

/// One width of the model, split over its chains. Chains count from 0 here, as in tensor names.
///
/// ```
/// let chains = colm_checkpoint::Chains::new(vec![2, 1, 1])?;
/// let hidden = chains.split("hidden_size", 32)?;
/// assert_eq!((hidden.of(0), hidden.of(1), hidden.total()), (16, 8, 32));
/// assert_eq!(hidden.range(1), 16..24);
/// # Ok::<(), colm_checkpoint::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The prefix sums of the chain widths: chain i is `bounds[i]..bounds[i + 1]`.
    bounds: Vec<usize>,
}

impl Split {
    /// `width` in the first of `count` chains and nothing in the others, as for Air's keys and
    /// values.
    pub fn all_in_first(width: usize, count: usize) -> Self {
        let mut bounds = vec![width; count + 1];
        bounds[0] = 0;
        Self { bounds }
    }

    /// Chain i has `shares[i]`. Their sum must not overflow.
    pub(crate) fn of_shares(shares: &[usize]) -> Self {
        let mut bounds = vec![0];
        for (chain, share) in shares.iter().enumerate() {
            bounds.push(bounds[chain] + share);
        }
        Self { bounds }
    }

    /// The number of chains.
    pub fn count(&self) -> usize {
        self.bounds.len() - 1
    }

    /// The width of chain `i`.
    ///
    /// # Panics
    /// If there is no chain `i`. The other methods that take a chain panic as well.
    pub fn of(&self, i: usize) -> usize {
        self.bounds[i + 1] - self.bounds[i]
    }

    /// The width of chains `0..=i` together: the width of `x_<=i` in `docs/spec.md#chains`.
    pub fn upto(&self, i: usize) -> usize {
        self.bounds[i + 1]
    }

    /// The width of the first `k` chains together.
    pub fn first(&self, k: usize) -> usize {
        self.bounds[k]
    }

    /// The position of chain `i` within the full width.
    pub fn range(&self, i: usize) -> Range<usize> {
        self.bounds[i]..self.bounds[i + 1]
    }

    /// The full width.
    pub fn total(&self) -> usize {
        self.bounds[self.count()]
    }

    /// The split with every width multiplied by `factor`, for example from heads to columns.
    pub fn scaled(&self, factor: usize) -> Self {
        let bounds = self.bounds.iter().map(|bound| bound * factor).collect();
        Self { bounds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unequal_chains_have_prefix_sums() {
        let chains = Chains::new(vec![2, 1, 1]).unwrap();
        let hidden = chains.split("hidden_size", 32).unwrap();
        assert_eq!((0..3).map(|i| hidden.of(i)).collect::<Vec<_>>(), [16, 8, 8]);
        assert_eq!((0..3).map(|i| hidden.upto(i)).collect::<Vec<_>>(), [16, 24, 32]);
        assert_eq!(hidden.range(1), 16..24);
        assert_eq!((hidden.first(0), hidden.first(2)), (0, 24));
    }

    #[test]
    fn the_counts_are_one_to_n() {
        let chains = Chains::new(vec![2, 1, 1]).unwrap();
        assert_eq!(chains.counts().map(ChainCount::get).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(chains.all().get(), 3);
    }

    #[test]
    fn an_indivisible_width_names_field_and_chain() {
        let chains = Chains::new(vec![2, 1]).unwrap();
        let error = chains.split("num_attention_heads", 8).unwrap_err().to_string();
        assert!(error.contains("num_attention_heads"), "{error}");
        assert!(error.contains("chain 1"), "{error}");
    }

    #[test]
    fn shared_heads_belong_to_the_first_chain() {
        let shared = Split::all_in_first(4, 3);
        assert_eq!((0..3).map(|i| shared.of(i)).collect::<Vec<_>>(), [4, 0, 0]);
        assert_eq!(shared.total(), 4);
    }
}
