//! How a width of the model is split over its chains (SPEC 1).

use std::ops::Range;

use crate::chain_count::ChainCount;
use crate::config::ConfigError;
use crate::config_checks::MAX_SIZE;

/// The most chains a model may have: tens of times what any has.
pub(crate) const MAX_CHAINS: usize = 256;

/// The relative sizes `[c_1 .. c_n]` of the chains, as `chains` in config.json gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chains(Vec<usize>);

impl Chains {
    /// Refuses an empty list, more than 256 chains, a chain of size 0 and a sum above 2^31 - 1.
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

    /// n, the number of chains.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// n as a [`ChainCount`]: all chains of the model.
    pub fn all(&self) -> ChainCount {
        ChainCount::new(self.count(), self.count()).expect("`Chains` is never empty")
    }

    /// 1, 2, .. n: every number of chains the model can be computed at.
    pub fn counts(&self) -> impl Iterator<Item = ChainCount> {
        let n = self.count();
        (1..=n).filter_map(move |k| ChainCount::new(k, n).ok())
    }

    /// The ratios as written in config.json.
    pub fn ratios(&self) -> &[usize] {
        &self.0
    }

    /// Splits `width` over the chains: chain i gets `width * c_i / sum(c)`, a whole number of at
    /// least 1. `field` names the width in the error.
    pub fn split(&self, field: &'static str, width: usize) -> Result<Split, ConfigError> {
        let sum: usize = self.0.iter().sum();
        let mut bounds = vec![0];
        for (chain, ratio) in self.0.iter().enumerate() {
            let share = width.checked_mul(*ratio).filter(|part| part % sum == 0);
            match share.map(|part| part / sum) {
                Some(part) if part > 0 => bounds.push(bounds[chain] + part),
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

/// One width split over the chains. Chains count from 0 here, as in tensor names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// `bounds[i]..bounds[i + 1]` is chain i; the prefix sums of the chain widths.
    bounds: Vec<usize>,
}

impl Split {
    /// The whole width in the first of `count` chains, nothing in the others: Air's keys and values.
    pub fn all_in_first(width: usize, count: usize) -> Self {
        let mut bounds = vec![width; count + 1];
        bounds[0] = 0;
        Self { bounds }
    }

    /// The number of chains.
    pub fn count(&self) -> usize {
        self.bounds.len() - 1
    }

    /// The width of chain `i`.
    pub fn of(&self, i: usize) -> usize {
        self.bounds[i + 1] - self.bounds[i]
    }

    /// The width of chains `0..=i` together: the width of `x_<=i`.
    pub fn upto(&self, i: usize) -> usize {
        self.bounds[i + 1]
    }

    /// The width of the first `k` chains together.
    pub fn first(&self, k: usize) -> usize {
        self.bounds[k]
    }

    /// Where chain `i` stands in the full width.
    pub fn range(&self, i: usize) -> Range<usize> {
        self.bounds[i]..self.bounds[i + 1]
    }

    /// The full width.
    pub fn total(&self) -> usize {
        self.bounds[self.count()]
    }

    /// Every bound multiplied by `factor`: heads to head columns.
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
    fn an_indivisible_width_names_field_and_chain() {
        let chains = Chains::new(vec![2, 1]).unwrap();
        let refused = chains.split("num_attention_heads", 8).unwrap_err().to_string();
        assert!(refused.contains("num_attention_heads"), "{refused}");
        assert!(refused.contains("chain 1"), "{refused}");
    }

    #[test]
    fn shared_heads_belong_to_the_first_chain() {
        let shared = Split::all_in_first(4, 3);
        assert_eq!((0..3).map(|i| shared.of(i)).collect::<Vec<_>>(), [4, 0, 0]);
        assert_eq!(shared.total(), 4);
    }
}
