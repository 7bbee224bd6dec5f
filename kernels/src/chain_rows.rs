//! Which rows of a step each chain is active on.

use std::ops::Range;

use candle_core::{bail, Result};

/// The rows that each chain is active on. They are nested: a chain's rows are among those of every earlier chain,
/// because it reads the values of the earlier chains there (`docs/spec.md#chains`).
#[derive(Clone, Debug)]
pub struct ChainRows {
    /// The number of rows of each chain.
    counts: Vec<usize>,
    /// `row_maps[i][j]`, for j < i: the index, among the rows of chain j, of each row of chain i. None if the two
    /// chains have the same rows.
    row_maps: Vec<Vec<Option<Vec<usize>>>>,
}

impl ChainRows {
    /// `rows[i]` has the rows of chain i in ascending order. They may be any numbers, as long as all chains use the
    /// same.
    ///
    /// # Errors
    /// If rows are not ascending, or if a chain has a row that an earlier chain does not have.
    pub fn new(rows: &[Vec<usize>]) -> Result<Self> {
        let mut row_maps = Vec::with_capacity(rows.len());
        for (chain, own) in rows.iter().enumerate() {
            if own.windows(2).any(|pair| pair[0] >= pair[1]) {
                bail!("the rows of chain {} are not ascending", chain + 1);
            }
            let maps = rows[..chain].iter().enumerate().map(|(earlier, earlier_rows)| {
                if own == earlier_rows {
                    return Ok(None);
                }
                let Some(map) = indices_in(earlier_rows, own) else {
                    bail!("chain {} has a row that chain {} does not have", chain + 1, earlier + 1);
                };
                Ok(Some(map))
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

    /// The index of row `row` of `chain` among the rows of `earlier`, an earlier chain or `chain` itself.
    pub(crate) fn row_in(&self, chain: usize, earlier: usize, row: usize) -> usize {
        match self.row_maps[chain].get(earlier) {
            Some(Some(map)) => map[row],
            _ => row,
        }
    }

    /// The runs of consecutive chains, of the first `chains`, that have the same rows.
    pub(crate) fn same_row_runs(&self, chains: usize) -> Vec<Range<usize>> {
        let mut runs = Vec::new();
        let mut start = 0;
        for chain in 1..=chains {
            // Nested sets of equal size are equal.
            if chain == chains || self.counts[chain] != self.counts[start] {
                runs.push(start..chain);
                start = chain;
            }
        }
        runs
    }
}

/// The index in `earlier_rows` of each of `own`, both ascending. None if one is missing.
fn indices_in(earlier_rows: &[usize], own: &[usize]) -> Option<Vec<usize>> {
    let mut candidates = earlier_rows.iter().enumerate();
    let index_of =
        |row| candidates.find(|(_, candidate)| *candidate == row).map(|(index, _)| index);
    own.iter().map(index_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_the_earlier_chains() -> Result<()> {
        let rows = ChainRows::new(&[vec![0, 1, 2, 5, 9], vec![1, 5, 9], vec![1, 5, 9], vec![9]])?;
        assert_eq!((rows.row_in(1, 0, 2), rows.row_in(2, 1, 2), rows.row_in(3, 0, 0)), (4, 2, 4));
        assert_eq!(rows.same_row_runs(4), [0..1, 1..3, 3..4]);
        assert_eq!(rows.same_row_runs(2), [0..1, 1..2]);
        Ok(())
    }

    #[test]
    fn rows_that_are_not_nested_are_an_error() {
        let error = ChainRows::new(&[vec![0, 2], vec![1]]).unwrap_err().to_string();
        assert!(error.contains("chain 2 has a row that chain 1"), "{error}");
        assert!(ChainRows::new(&[vec![2, 0]]).is_err());
    }
}
