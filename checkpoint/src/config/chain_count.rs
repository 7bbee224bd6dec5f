//! The chain count k that a model is computed, loaded or stored at.

use std::fmt;

use thiserror::Error;

/// A chain count k that was checked against the n chains of a model: `1 <= k <= n`.
///
/// The model at k chains is defined in `docs/spec.md#chains`.
///
/// ```
/// use colm_checkpoint::ChainCount;
///
/// assert_eq!(ChainCount::new(2, 4)?.get(), 2);
/// let error = ChainCount::new(5, 4).unwrap_err();
/// assert_eq!(error.to_string(), "chains 5: expected 1 to 4");
/// # Ok::<(), colm_checkpoint::ChainCountError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainCount(usize);

/// A chain count that the model does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("chains {k}: expected 1 to {n}")]
pub struct ChainCountError {
    /// The chain count that was asked for.
    pub k: usize,
    /// The number of chains of the model.
    pub n: usize,
}

impl ChainCount {
    /// The first chain alone, which every model has.
    pub const ONE: Self = Self(1);

    /// k of the `n` chains of a model.
    ///
    /// # Errors
    /// If `k` is 0 or larger than `n`.
    pub fn new(k: usize, n: usize) -> Result<Self, ChainCountError> {
        if k == 0 || k > n {
            return Err(ChainCountError { k, n });
        }
        Ok(Self(k))
    }

    /// k, at least 1.
    pub fn get(self) -> usize {
        self.0
    }
}

impl fmt::Display for ChainCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_from_one_to_the_number_of_chains() {
        for k in 1..=4 {
            assert_eq!(ChainCount::new(k, 4).map(ChainCount::get), Ok(k));
        }
        for k in [0, 5, usize::MAX] {
            assert_eq!(ChainCount::new(k, 4), Err(ChainCountError { k, n: 4 }));
        }
        assert_eq!(ChainCount::new(1, 4), Ok(ChainCount::ONE));
    }
}
