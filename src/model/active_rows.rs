//! Which rows each chain is active on: the one mechanism behind elastic inference, mixed batches,
//! prefix-chain prefill and self-speculation.
//!
//! A step computes *rows*. A row is one position of one sequence; the rows of a step are flattened sequence by
//! sequence. Chain i computes only the rows it is active on; its tensors do not contain the others. The sets
//! are nested, active(i + 1) within active(i), because chain i reads the earlier chains at the same row
//! (docs/spec.md#chains). Each feature is a choice of these sets:
//!
//! - the model at k chains: chains 1 to k have all rows, the later ones none;
//! - a mixed batch: chain i has the rows of the sequences whose k is at least i;
//! - prefix-chain prefill (docs/spec.md#prefix-chain-prefill): a chain is active only on rows whose logits are
//!   requested if neither it nor a later chain owns keys and values;
//! - chunked prefill: of a prompt, a step has the rows of one chunk, and only the last chunk requests logits;
//! - self-speculation: drafting is a step at k = 1, verification a step in which a decoding sequence has
//!   several rows.

use std::ops::Range;

use candle_core::{bail, Device, Result, Tensor};
use colm_checkpoint::Split;
use colm_kernels::{ChainRows, QueryRange};

/// The rows of one sequence in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceRows {
    /// The position of the first row: how many positions the KV cache already holds.
    pub first_position: usize,
    /// The number of rows.
    pub count: usize,
    /// The rows whose logits are requested, as a range within `0..count`.
    pub logits: Range<usize>,
    /// k, the number of chains that compute the sequence.
    pub chain_count: usize,
}

/// The rows of a step, or a part of them, chain by chain.
#[derive(Clone, Debug)]
pub struct ActiveRows {
    sequences: Vec<SequenceRows>,
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
    /// # Errors
    /// If a sequence requests logits of rows that it does not have.
    pub fn new(sequences: Vec<SequenceRows>, kv_heads: &Split) -> Result<Self> {
        if let Some(sequence) = sequences.iter().find(|one| one.logits.end > one.count) {
            bail!(
                "logits of rows {:?} are requested from {} rows",
                sequence.logits,
                sequence.count
            );
        }
        Self::of(sequences, |chain| kv_heads.of(chain) > 0)
    }

    /// `writes_kv` says of which chains (from 0) every row is needed, because keys and values are computed from it.
    fn of(sequences: Vec<SequenceRows>, writes_kv: impl Fn(usize) -> bool) -> Result<Self> {
        let count = sequences.iter().map(|sequence| sequence.chain_count).max().unwrap_or(0);
        let active = |chain: usize, sequence: &SequenceRows| {
            if (chain..sequence.chain_count).any(&writes_kv) {
                0..sequence.count
            } else if chain < sequence.chain_count {
                sequence.logits.clone()
            } else {
                0..0
            }
        };
        let of_chain = |chain| sequences.iter().map(|sequence| active(chain, sequence)).collect();
        let with_rows = |active: &Vec<Range<usize>>| active.iter().any(|rows| !rows.is_empty());
        let chains: Vec<Vec<Range<usize>>> =
            (0..count).map(of_chain).take_while(with_rows).collect();
        let of_step = chains.iter().map(|active| rows_of_step(&sequences, active));
        let chain_rows = ChainRows::new(&of_step.collect::<Vec<_>>())?;
        Ok(Self { sequences, chains, chain_rows })
    }

    /// The same sequences, reduced to the rows whose logits are requested.
    pub fn restricted_to_logits(&self) -> Result<Self> {
        self.restricted_to(self.sequences.iter().map(|sequence| sequence.logits.clone()).collect())
    }

    /// The same sequences, reduced to the rows `logits`: of each sequence, a range of the rows whose logits are
    /// requested. Nothing writes keys and values from them.
    pub fn restricted_to(&self, logits: Vec<Range<usize>>) -> Result<Self> {
        let sequences = self.sequences.iter().cloned().zip(logits);
        let sequences = sequences.map(|(sequence, logits)| SequenceRows { logits, ..sequence });
        Self::of(sequences.collect(), |_| false)
    }

    /// The rows of each chain in terms of the rows of the chain before it, as the kernels take them.
    pub fn chain_rows(&self) -> &ChainRows {
        &self.chain_rows
    }

    /// The rows of each sequence.
    pub fn sequences(&self) -> &[SequenceRows] {
        &self.sequences
    }

    /// The number of chains that have rows.
    pub fn chain_count(&self) -> usize {
        self.chains.len()
    }

    /// The number of rows `chain` (from 0) is active on.
    pub fn count(&self, chain: usize) -> usize {
        self.chain_rows.count(chain)
    }

    /// The number of rows of the sequence at index `sequence` that `chain` (from 0) is active on.
    pub fn count_of_sequence(&self, chain: usize, sequence: usize) -> usize {
        self.chains.get(chain).map_or(0, |active| active[sequence].len())
    }

    /// The rows `chain` is active on, as indices of the flattened rows of the step.
    pub fn of_step(&self, chain: usize) -> Vec<usize> {
        rows_of_step(&self.sequences, &self.chains[chain])
    }

    /// Per row of `chain`, its position in its sequence.
    pub(super) fn positions(&self, chain: usize) -> Vec<usize> {
        let sequences = self.sequences.iter().zip(&self.chains[chain]);
        sequences
            .flat_map(|(sequence, active)| active.clone().map(|row| sequence.first_position + row))
            .collect()
    }

    /// The queries of `chain`: one run of consecutive positions per sequence.
    pub(super) fn query_ranges(&self, chain: usize) -> Vec<QueryRange> {
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

    /// Of `x`, whose rows are those of `chain` in `self`, the rows of `narrower_chain` in `narrower`. If they are
    /// the same rows, this is `x` itself.
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
        x.index_select(&indices_within(from, to, x.device())?, 0)
    }

    /// For each row of `chain`, its index among the rows of chain 0.
    pub fn within_first(&self, chain: usize, device: &Device) -> Result<Tensor> {
        indices_within(&self.chains[0], &self.chains[chain], device)
    }
}

/// The active rows as indices of the flattened rows of all sequences.
fn rows_of_step(sequences: &[SequenceRows], active: &[Range<usize>]) -> Vec<usize> {
    let mut first = 0;
    let mut rows = Vec::new();
    for (sequence, active) in sequences.iter().zip(active) {
        rows.extend(active.clone().map(|row| first + row));
        first += sequence.count;
    }
    rows
}

/// For each row in `to`, its index among the rows in `from`, which contain all of them.
fn indices_within(from: &[Range<usize>], to: &[Range<usize>], device: &Device) -> Result<Tensor> {
    let mut first = 0;
    let mut indices = Vec::new();
    for (from, to) in from.iter().zip(to) {
        debug_assert!(to.is_empty() || from.start <= to.start && to.end <= from.end);
        indices.extend(to.clone().map(|row| (first + row - from.start) as u32));
        first += from.len();
    }
    Tensor::new(indices, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(rows: usize, chain_count: usize) -> SequenceRows {
        SequenceRows { first_position: 0, count: rows, logits: rows - 1..rows, chain_count }
    }

    fn air(chains: usize) -> Split {
        Split::all_in_first(2, chains)
    }

    fn colm(chains: usize) -> Split {
        let equal = colm_checkpoint::Chains::new(vec![1; chains]).unwrap();
        equal.split("num_key_value_heads", chains).unwrap()
    }

    fn counts(active: &ActiveRows) -> Vec<usize> {
        (0..active.chain_count()).map(|chain| active.count(chain)).collect()
    }

    #[test]
    fn prefix_chain_prefill_needs_later_chains_at_the_last_row_only() {
        let active = ActiveRows::new(vec![prompt(5, 3), prompt(2, 3)], &air(3)).unwrap();
        assert_eq!(counts(&active), [7, 2, 2]);
        assert_eq!(active.of_step(1), [4, 6]);
    }

    #[test]
    fn a_chunk_that_does_not_end_its_prompt_needs_the_chains_with_keys_and_values_only() {
        let chunk = SequenceRows { logits: 5..5, ..prompt(5, 3) };
        let alone = ActiveRows::new(vec![chunk.clone()], &air(3)).unwrap();
        assert_eq!(counts(&alone), [5]);
        assert!(counts(&alone.restricted_to_logits().unwrap()).is_empty());
        let decoding = SequenceRows { first_position: 9, ..prompt(1, 2) };
        let mixed = ActiveRows::new(vec![chunk.clone(), decoding], &air(3)).unwrap();
        assert_eq!(counts(&mixed), [6, 1]);
        let owning = ActiveRows::new(vec![chunk], &colm(3)).unwrap();
        assert_eq!(counts(&owning), [5, 5, 5]);
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
        let cached = SequenceRows { first_position: 32, count: 4, logits: 3..4, chain_count: 2 };
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
        let logits = active.restricted_to_logits()?;
        let last = active.select(0, &logits, 0, &x)?;
        assert_eq!(last.flatten_all()?.to_vec1::<f32>()?, [2., 4.]);
        let two = active.restricted_to(vec![1..3, 0..0])?;
        assert_eq!(counts(&two), [2]);
        assert_eq!(active.select(0, &two, 0, &x)?.flatten_all()?.to_vec1::<f32>()?, [1., 2.]);
        Ok(())
    }
}
