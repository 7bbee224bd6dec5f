//! Which rows of a step each chain is active on.

use std::ops::Range;

use candle_core::{bail, Result};

/// The rows that each chain is active on. They are nested: a chain's rows are among those of every
/// lower chain, because it reads the lower chains' values there (`docs/spec.md#chains`).
#[derive(Clone, Debug)]
pub struct ChainRows {
    /// The number of rows of each chain.
    counts: Vec<usize>,
    /// `row_maps[i][j]`, for j < i: the index, among the rows of chain j, of each row of chain i.
    /// None if the two chains have the same rows.
    row_maps: Vec<Vec<Option<Vec<usize>>>>,
}

impl ChainRows {
    /// `rows[i]` has the rows of chain i in ascending order. They may be any numbers, as long as all
    /// chains use the same.
    ///
    /// # Errors
    /// If rows are not ascending, or if a chain has a row that a lower chain does not have.
    pub fn new(rows: &[Vec<usize>]) -> Result<Self> {
        let mut row_maps = Vec::with_capacity(rows.len());
        for (chain, own) in rows.iter().enumerate() {
            if own.windows(2).any(|pair| pair[0] >= pair[1]) {
                bail!("the rows of chain {chain} are not ascending");
            }
            let maps = rows[..chain].iter().enumerate().map(|(lower, of_lower)| {
                row_map(own, of_lower).ok_or_else(|| {
                    candle_core::Error::msg(format!(
                        "chain {chain} has a row that chain {lower} does not have"
                    ))
                })
            });
            row_maps.push(maps.collect::<Result<Vec<_>>>()?);
        }
        Ok(Self { counts: rows.iter().map(Vec::len).collect(), row_maps })
    }

    /// `chains` chains that are all active on the same `rows` rows.
    pub fn same(chains: usize, rows: usize) -> Self {
        Self {
            counts: vec![rows; chains],
            row_maps: (0..chains).map(|chain| vec![None; chain]).collect(),
        }
    }

    /// The number of chains.
    pub fn chain_count(&self) -> usize {
        self.counts.len()
    }

    /// The number of rows of `chain`, counted from 0.
    ///
    /// # Panics
    /// If there is no such chain.
    pub fn count(&self, chain: usize) -> usize {
        self.counts[chain]
    }

    /// The index of row `row` of `chain` among the rows of `lower`, a lower chain or itself.
    pub(crate) fn row_in(&self, chain: usize, lower: usize, row: usize) -> usize {
        match self.row_maps[chain].get(lower) {
            Some(Some(map)) => map[row],
            _ => row,
        }
    }

    /// The runs of consecutive chains, of the first `chains`, that have the same rows.
    pub(crate) fn groups(&self, chains: usize) -> Vec<Range<usize>> {
        let mut groups = Vec::new();
        let mut start = 0;
        for chain in 1..=chains {
            // Nested sets of equal size are equal.
            if chain == chains || self.counts[chain] != self.counts[start] {
                groups.push(start..chain);
                start = chain;
            }
        }
        groups
    }
}

/// The indices of `own` in `lower`, both ascending. `None` if one is missing, `Some(None)` if they
/// are the same rows.
#[allow(clippy::option_option)]
fn row_map(own: &[usize], lower: &[usize]) -> Option<Option<Vec<usize>>> {
    if own == lower {
        return Some(None);
    }
    let mut map = Vec::with_capacity(own.len());
    let mut rows = lower.iter().enumerate();
    for row in own {
        let (index, _) = rows.find(|(_, candidate)| *candidate == row)?;
        map.push(index);
    }
    Some(Some(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_the_lower_chains() -> Result<()> {
        let rows = ChainRows::new(&[vec![0, 1, 2, 5, 9], vec![1, 5, 9], vec![1, 5, 9], vec![9]])?;
        assert_eq!((rows.row_in(1, 0, 2), rows.row_in(2, 1, 2), rows.row_in(3, 0, 0)), (4, 2, 4));
        assert_eq!(rows.groups(4), [0..1, 1..3, 3..4]);
        assert_eq!(rows.groups(2), [0..1, 1..2]);
        Ok(())
    }

    #[test]
    fn rows_that_are_not_nested_are_an_error() {
        let error = ChainRows::new(&[vec![0, 2], vec![1]]).unwrap_err().to_string();
        assert!(error.contains("chain 1 has a row that chain 0"), "{error}");
        assert!(ChainRows::new(&[vec![2, 0]]).is_err());
    }
}
