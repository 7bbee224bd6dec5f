//! Which rows each chain has.

use candle_core::{bail, Result};

/// The rows of a step that each chain is active on, nested: a chain's rows are among those of every
/// chain below it, because it reads them there (SPEC 1).
#[derive(Clone, Debug)]
pub struct ChainRows {
    /// Per chain how many rows it has.
    counts: Vec<usize>,
    /// `places[i][j]`, j < i: where the rows of chain i stand among those of chain j. None if they are
    /// the same rows.
    places: Vec<Vec<Option<Vec<usize>>>>,
}

impl ChainRows {
    /// `rows[i]`: the rows of chain i, as ascending numbers of any meaning that all chains share.
    ///
    /// Fails if they are not ascending or a chain has a row that the chain below it has not.
    pub fn new(rows: &[Vec<usize>]) -> Result<Self> {
        let mut places = Vec::with_capacity(rows.len());
        for (chain, own) in rows.iter().enumerate() {
            if own.windows(2).any(|pair| pair[0] >= pair[1]) {
                bail!("the rows of chain {chain} are not ascending");
            }
            let below = rows[..chain].iter().enumerate();
            let below = below.map(|(lower, below)| {
                places_among(own, below).ok_or_else(|| {
                    candle_core::Error::msg(format!(
                        "chain {chain} has a row that chain {lower} below it has not"
                    ))
                })
            });
            places.push(below.collect::<Result<Vec<_>>>()?);
        }
        Ok(Self { counts: rows.iter().map(Vec::len).collect(), places })
    }

    /// Every chain on the same rows.
    pub fn same(chains: usize, rows: usize) -> Self {
        Self {
            counts: vec![rows; chains],
            places: (0..chains).map(|chain| vec![None; chain]).collect(),
        }
    }

    /// The number of chains.
    pub fn chains(&self) -> usize {
        self.counts.len()
    }

    /// The number of rows of `chain`, from 0.
    pub fn count(&self, chain: usize) -> usize {
        self.counts[chain]
    }

    /// Where row `row` of `chain` stands among the rows of `lower`, a chain below it or itself.
    pub(crate) fn place(&self, chain: usize, lower: usize, row: usize) -> usize {
        match self.places[chain].get(lower) {
            Some(Some(places)) => places[row],
            _ => row,
        }
    }

    /// The runs of chains that have the same rows.
    pub(crate) fn groups(&self, chains: usize) -> Vec<std::ops::Range<usize>> {
        let mut groups = Vec::new();
        let mut start = 0;
        for chain in 1..=chains {
            // Nested sets of one size are the same set.
            if chain == chains || self.counts[chain] != self.counts[start] {
                groups.push(start..chain);
                start = chain;
            }
        }
        groups
    }
}

/// The places of `own` in `among`, both ascending. The outer None if one is missing, the inner if
/// they are the same.
#[allow(clippy::option_option)]
fn places_among(own: &[usize], among: &[usize]) -> Option<Option<Vec<usize>>> {
    if own == among {
        return Some(None);
    }
    let mut places = Vec::with_capacity(own.len());
    let mut rows = among.iter().enumerate();
    for row in own {
        let (place, _) = rows.find(|(_, candidate)| *candidate == row)?;
        places.push(place);
    }
    Some(Some(places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_the_chains_below() -> Result<()> {
        let rows = ChainRows::new(&[vec![0, 1, 2, 5, 9], vec![1, 5, 9], vec![1, 5, 9], vec![9]])?;
        assert_eq!((rows.place(1, 0, 2), rows.place(2, 1, 2), rows.place(3, 0, 0)), (4, 2, 4));
        assert_eq!(rows.groups(4), [0..1, 1..3, 3..4]);
        assert_eq!(rows.groups(2), [0..1, 1..2]);
        Ok(())
    }

    #[test]
    fn rows_that_are_not_nested_are_refused() {
        let refused = ChainRows::new(&[vec![0, 2], vec![1]]).unwrap_err().to_string();
        assert!(refused.contains("chain 1 has a row that chain 0"), "{refused}");
        assert!(ChainRows::new(&[vec![2, 0]]).is_err());
    }
}
