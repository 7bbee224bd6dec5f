//! Which rows each chain is active on: the one mechanism behind elastic inference, mixed batches,
//! prefix-chain prefill and self-speculation.
//!
//! A step of the engine computes *rows*, pairs (sequence, position), flattened sequence by sequence.
//! Chain i computes only the rows it is active on; the others do not exist in its tensors. The sets
//! are nested, active(i + 1) within active(i), because chain i needs the chains below it at the same
//! row (docs/spec.md#chains). Everything is a choice of sets:
//!
//! - the model at k chains: chains up to k have all rows, the later ones none;
//! - a mixed batch: chain i has the rows of the sequences whose k reaches it;
//! - prefix-chain prefill (docs/spec.md#prefix-chain-prefill): a chain that owns no keys and values, and
//!   has none above it that does, is needed only where logits are asked for;
//! - self-speculation: a draft is a step at k = 1, its check a step in which a decoding sequence has
//!   several rows.

use std::ops::Range;

use candle_core::{bail, Device, Result, Tensor};
use colm_checkpoint::Split;
use colm_kernels::{BlockTables, ChainRows, QueryRange, Slots};

/// What one sequence brings to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The position of its first row: how many positions the KV cache already holds.
    pub first_position: usize,
    /// How many rows it has in this step.
    pub rows: usize,
    /// The rows whose logits are asked for, counted within its own rows.
    pub logits: Range<usize>,
    /// k, the number of chains that compute it.
    pub chains: usize,
}

/// The rows of a step, or a part of them, chain by chain.
#[derive(Clone, Debug)]
pub struct ActiveRows {
    sequences: Vec<Sequence>,
    /// `chains[i][s]`: the rows of sequence s that chain i is active on, within the sequence's rows.
    /// Only chains with at least one row are listed.
    chains: Vec<Vec<Range<usize>>>,
    /// The same, as the linear layers take it.
    chain_rows: ChainRows,
}

impl ActiveRows {
    /// The rows each chain must compute so that every sequence gets its logits at its own chain
    /// count and every key and value is written that a later step may read.
    ///
    /// `kv_heads` says which chains own keys and values (docs/spec.md#layers): all in CoLM, the first in Air.
    ///
    /// Fails if a sequence asks for logits of rows it has not.
    pub fn new(sequences: Vec<Sequence>, kv_heads: &Split) -> Result<Self> {
        if let Some(sequence) = sequences.iter().find(|one| one.logits.end > one.rows) {
            bail!("logits {:?} are asked of {} rows", sequence.logits, sequence.rows);
        }
        let count = sequences.iter().map(|sequence| sequence.chains).max().unwrap_or(0);
        let active = |chain: usize, sequence: &Sequence| {
            let writes_kv = (chain..sequence.chains).any(|above| kv_heads.of(above) > 0);
            match chain < sequence.chains {
                true if writes_kv => 0..sequence.rows,
                true => sequence.logits.clone(),
                false => 0..0,
            }
        };
        let chains = (0..count)
            .map(|chain| sequences.iter().map(|sequence| active(chain, sequence)).collect())
            .collect();
        Self::of_chains(sequences, chains)
    }

    fn of_chains(sequences: Vec<Sequence>, chains: Vec<Vec<Range<usize>>>) -> Result<Self> {
        let of_step = chains.iter().map(|active| rows_of_step(&sequences, active));
        let chain_rows = ChainRows::new(&of_step.collect::<Vec<_>>())?;
        Ok(Self { sequences, chains, chain_rows })
    }

    /// The same sequences, reduced to the rows whose logits are asked for.
    pub fn at_logits(&self) -> Result<Self> {
        self.at(self.sequences.iter().map(|sequence| sequence.logits.clone()).collect())
    }

    /// The same sequences, reduced to the rows `asked`, a range of each sequence's rows whose logits
    /// are asked for.
    pub fn at(&self, asked: Vec<Range<usize>>) -> Result<Self> {
        let sequences = self.sequences.iter().cloned().zip(asked);
        let sequences = sequences.map(|(sequence, logits)| Sequence { logits, ..sequence });
        let sequences: Vec<Sequence> = sequences.collect();
        let asking = sequences.iter().filter(|sequence| !sequence.logits.is_empty());
        let count = asking.map(|sequence| sequence.chains).max().unwrap_or(0);
        let within = |chain: usize, sequence: &Sequence| match chain < sequence.chains {
            true => sequence.logits.clone(),
            false => 0..0,
        };
        let chains = (0..count)
            .map(|chain| sequences.iter().map(|sequence| within(chain, sequence)).collect())
            .collect();
        Self::of_chains(sequences, chains)
    }

    /// The rows of each chain among those of the chains below it.
    pub fn chain_rows(&self) -> &ChainRows {
        &self.chain_rows
    }

    /// What each sequence brings.
    pub fn sequences(&self) -> &[Sequence] {
        &self.sequences
    }

    /// The number of chains that have rows.
    pub fn chains(&self) -> usize {
        self.chains.len()
    }

    /// The number of rows `chain` (from 0) is active on.
    pub fn count(&self, chain: usize) -> usize {
        self.chain_rows.count(chain)
    }

    /// The rows `chain` is active on, as positions in the flattened rows of the step.
    pub fn of_step(&self, chain: usize) -> Vec<usize> {
        rows_of_step(&self.sequences, &self.chains[chain])
    }

    /// Per row of `chain`, its position in its sequence.
    fn positions(&self, chain: usize) -> Vec<usize> {
        let sequences = self.sequences.iter().zip(&self.chains[chain]);
        sequences
            .flat_map(|(sequence, active)| active.clone().map(|row| sequence.first_position + row))
            .collect()
    }

    /// The queries of `chain`: one run of consecutive positions per sequence.
    fn query_ranges(&self, chain: usize) -> Vec<QueryRange> {
        let sequences = self.sequences.iter().zip(&self.chains[chain]).enumerate();
        sequences
            .filter(|(_, (_, active))| !active.is_empty())
            .map(|(index, (sequence, active))| QueryRange {
                sequence: index,
                first_position: sequence.first_position + active.start,
                rows: active.len(),
            })
            .collect()
    }

    /// Of `x` with the rows of `chain` in `self`, those of `narrower_chain` in `narrower`. The
    /// tensor itself if they are the same.
    pub fn select(
        &self,
        chain: usize,
        narrower: &Self,
        narrower_chain: usize,
        x: &Tensor,
    ) -> Result<Tensor> {
        let (from, to) = (&self.chains[chain], &narrower.chains[narrower_chain]);
        if from == to {
            return Ok(x.clone());
        }
        x.index_select(&positions_within(from, to, x.device())?, 0)
    }

    /// Where the rows of `chain` stand among those of chain 0.
    pub fn within_first(&self, chain: usize, device: &Device) -> Result<Tensor> {
        positions_within(&self.chains[0], &self.chains[chain], device)
    }
}

/// The active rows as positions in the flattened rows of all sequences.
fn rows_of_step(sequences: &[Sequence], active: &[Range<usize>]) -> Vec<usize> {
    let mut first = 0;
    let mut rows = Vec::new();
    for (sequence, active) in sequences.iter().zip(active) {
        rows.extend(active.clone().map(|row| first + row));
        first += sequence.rows;
    }
    rows
}

/// For every row in `to`, its place among the rows in `from`, which has them all.
fn positions_within(from: &[Range<usize>], to: &[Range<usize>], device: &Device) -> Result<Tensor> {
    let mut first = 0;
    let mut places = Vec::new();
    for (from, to) in from.iter().zip(to) {
        debug_assert!(to.is_empty() || from.start <= to.start && to.end <= from.end);
        places.extend(to.clone().map(|row| (first + row - from.start) as u32));
        first += from.len();
    }
    Tensor::new(places, device)
}

/// One step of the engine: its rows and where their keys and values go.
#[derive(Clone, Debug)]
pub struct Step {
    /// Per row, the token.
    tokens: Vec<u32>,
    /// Per sequence, the blocks that hold its keys and values.
    pub block_tables: BlockTables,
    /// Which rows each chain is active on.
    pub active: ActiveRows,
    /// What every layer asks of each chain's rows.
    chains: Vec<ChainStep>,
}

/// The rows of one chain in a step.
#[derive(Clone, Debug)]
pub struct ChainStep {
    /// Per row, its position in its sequence.
    pub positions: Vec<usize>,
    /// Per row, where its key and value are written.
    pub slots: Slots,
    /// The rows as queries: one run of consecutive positions per sequence.
    pub queries: Vec<QueryRange>,
}

impl Step {
    /// `tokens` and `slots` (where keys and values are written) are per row, `block_tables` per
    /// sequence.
    ///
    /// Fails if there are not as many of them as rows or sequences.
    pub fn new(
        tokens: Vec<u32>,
        slots: &Slots,
        block_tables: BlockTables,
        active: ActiveRows,
    ) -> Result<Self> {
        let rows: usize = active.sequences().iter().map(|sequence| sequence.rows).sum();
        let sequences = active.sequences().len();
        if tokens.len() != rows || slots.rows() != rows || block_tables.sequences() != sequences {
            bail!(
                "{rows} rows of {sequences} sequences come with {} tokens, {} slots and {} block tables",
                tokens.len(),
                slots.rows(),
                block_tables.sequences()
            );
        }
        let chain = |chain: usize| ChainStep {
            positions: active.positions(chain),
            slots: Slots::new(
                active.of_step(chain).into_iter().map(|row| slots.as_slice()[row]).collect(),
            ),
            queries: active.query_ranges(chain),
        };
        let chains = (0..active.chains()).map(chain).collect();
        Ok(Self { tokens, block_tables, active, chains })
    }

    /// The rows of every chain that has some.
    pub fn chains(&self) -> &[ChainStep] {
        &self.chains
    }

    /// The tokens of the rows of the sequence at `index`.
    pub fn tokens_of_sequence(&self, index: usize) -> &[u32] {
        let sequences = self.active.sequences();
        let first: usize = sequences[..index].iter().map(|sequence| sequence.rows).sum();
        &self.tokens[first..first + sequences[index].rows]
    }

    /// The tokens of the rows `chain` is active on.
    pub fn tokens_of(&self, chain: usize) -> Vec<u32> {
        self.active.of_step(chain).into_iter().map(|row| self.tokens[row]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(rows: usize, chains: usize) -> Sequence {
        Sequence { first_position: 0, rows, logits: rows - 1..rows, chains }
    }

    fn air(chains: usize) -> Split {
        Split::all_in_first(2, chains)
    }

    fn colm(chains: usize) -> Split {
        let equal = colm_checkpoint::Chains::new(vec![1; chains]).unwrap();
        equal.split("num_key_value_heads", chains).unwrap()
    }

    fn counts(active: &ActiveRows) -> Vec<usize> {
        (0..active.chains()).map(|chain| active.count(chain)).collect()
    }

    #[test]
    fn prefix_chain_prefill_needs_upper_chains_at_the_last_row_only() {
        let active = ActiveRows::new(vec![prompt(5, 3), prompt(2, 3)], &air(3)).unwrap();
        assert_eq!(counts(&active), [7, 2, 2]);
        assert_eq!(active.of_step(1), [4, 6]);
    }

    #[test]
    fn a_chain_that_owns_keys_and_values_has_every_row_of_its_sequences() {
        let active = ActiveRows::new(vec![prompt(5, 3), prompt(2, 1)], &colm(3)).unwrap();
        assert_eq!(counts(&active), [7, 5, 5]);
    }

    #[test]
    fn a_mixed_batch_gives_each_chain_the_sequences_that_reach_it() {
        let sequences = [1, 3, 2].map(|k| prompt(1, k)).to_vec();
        let active = ActiveRows::new(sequences, &colm(3)).unwrap();
        assert_eq!(counts(&active), [3, 2, 1]);
        assert_eq!(active.of_step(1), [1, 2]);
        assert_eq!(active.of_step(2), [1]);
    }

    #[test]
    fn ranges_carry_positions_of_a_cached_prefix() {
        let cached = Sequence { first_position: 32, rows: 4, logits: 3..4, chains: 2 };
        let active = ActiveRows::new(vec![prompt(3, 1), cached], &air(2)).unwrap();
        let last = QueryRange { sequence: 1, first_position: 35, rows: 1 };
        assert_eq!(active.query_ranges(1), [last]);
        assert_eq!(active.query_ranges(0).len(), 2);
    }

    #[test]
    fn selecting_rows_keeps_the_order_of_the_step() -> Result<()> {
        let active = ActiveRows::new(vec![prompt(3, 1), prompt(2, 2)], &air(2)).unwrap();
        let x = Tensor::arange(0f32, 5., &Device::Cpu)?.reshape((5, 1))?;
        let second = active.select(0, &active, 1, &x)?;
        assert_eq!(second.flatten_all()?.to_vec1::<f32>()?, [4.]);
        let logits = active.at_logits()?;
        let last = active.select(0, &logits, 0, &x)?;
        assert_eq!(last.flatten_all()?.to_vec1::<f32>()?, [2., 4.]);
        let two = active.at(vec![1..3, 0..0])?;
        assert_eq!(counts(&two), [2]);
        assert_eq!(active.select(0, &two, 0, &x)?.flatten_all()?.to_vec1::<f32>()?, [1., 2.]);
        Ok(())
    }
}
