//! One forward pass: its rows, their tokens, and where their keys and values are.

use candle_core::{bail, Result};
use colm_checkpoint::Split;
use colm_kernels::{BlockTables, QueryRange, Slots};

use super::active_rows::{ActiveRows, SequenceRows};

/// What one sequence brings to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceInput {
    /// Its rows.
    pub rows: SequenceRows,
    /// One token per row, in the order of their positions.
    pub tokens: Vec<u32>,
    /// KV block b of the table holds the positions from `b * block_size` on.
    pub block_table: Vec<u32>,
}

/// The rows of one forward pass, flattened sequence by sequence.
#[derive(Clone, Debug)]
pub struct Step {
    /// Per row, the token.
    tokens: Vec<u32>,
    /// Per sequence, the blocks that hold its keys and values.
    pub block_tables: BlockTables,
    /// Which rows each chain is active on.
    pub active: ActiveRows,
    /// Per chain, where its rows are.
    chains: Vec<ChainStep>,
    /// The rows whose output a layer computes, and those whose output the last layer computes.
    outputs: [OutputRows; 2],
}

/// The rows of one chain in a step.
#[derive(Clone, Debug)]
pub struct ChainStep {
    /// Per row, its position in its sequence.
    pub positions: Vec<usize>,
    /// Per row, the slot that its key and value are written to.
    pub slots: Slots,
}

/// The rows whose output a layer computes. It computes keys and values of all rows of the step.
#[derive(Clone, Debug)]
pub struct OutputRows {
    /// Which rows they are.
    pub rows: ActiveRows,
    /// Per chain, the rows as queries: one run of consecutive positions per sequence.
    pub queries: Vec<Vec<QueryRange>>,
}

impl Step {
    /// The step that computes all rows of `sequences` on a KV cache with blocks of `block_size` positions.
    /// `kv_heads` says which chains own keys and values (docs/spec.md#layers).
    ///
    /// # Errors
    /// If a sequence does not have one token per row, has no block for one of its positions, or requests logits of a row
    /// that it does not have.
    pub fn new(sequences: Vec<SequenceInput>, block_size: usize, kv_heads: &Split) -> Result<Self> {
        let mut slots = Vec::new();
        for sequence in &sequences {
            if sequence.tokens.len() != sequence.rows.count {
                bail!("{} tokens for {} rows", sequence.tokens.len(), sequence.rows.count);
            }
            slots.extend(sequence.slots(block_size)?);
        }
        let rows = sequences.iter().map(|sequence| sequence.rows.clone());
        let active = ActiveRows::new(rows.collect(), kv_heads)?;
        let chain = |chain: usize| {
            let slots = active.of_step(chain).into_iter().map(|row| slots[row]).collect();
            ChainStep { positions: active.positions(chain), slots: Slots::new(slots) }
        };
        let chains = (0..active.chain_count()).map(chain).collect();
        let outputs = [active.clone(), active.restricted_to_logits()?].map(OutputRows::new);
        let (tokens, tables): (Vec<_>, Vec<_>) =
            sequences.into_iter().map(|sequence| (sequence.tokens, sequence.block_table)).unzip();
        Ok(Self {
            tokens: tokens.concat(),
            block_tables: BlockTables::new(tables),
            active,
            chains,
            outputs,
        })
    }

    /// Every chain that has rows.
    pub fn chains(&self) -> &[ChainStep] {
        &self.chains
    }

    /// The rows whose output is computed: by the last layer those whose logits are requested, because no later layer reads
    /// the others; by the other layers all rows.
    pub fn outputs(&self, is_last_layer: bool) -> &OutputRows {
        &self.outputs[usize::from(is_last_layer)]
    }

    /// The tokens of the rows of the sequence at `index`.
    pub fn tokens_of_sequence(&self, index: usize) -> &[u32] {
        let sequences = self.active.sequences();
        let first: usize = sequences[..index].iter().map(|sequence| sequence.count).sum();
        &self.tokens[first..first + sequences[index].count]
    }

    /// The tokens of the rows that `chain` is active on.
    pub fn tokens_of_chain(&self, chain: usize) -> Vec<u32> {
        self.active.of_step(chain).into_iter().map(|row| self.tokens[row]).collect()
    }
}

impl OutputRows {
    fn new(rows: ActiveRows) -> Self {
        let queries = (0..rows.chain_count()).map(|chain| rows.query_ranges(chain)).collect();
        Self { rows, queries }
    }
}

impl SequenceInput {
    /// Per row, the slot that its key and value are written to, in blocks of `block_size` positions.
    ///
    /// # Errors
    /// If a position has no block.
    pub fn slots(&self, block_size: usize) -> Result<Vec<i64>> {
        let table = &self.block_table;
        let slot = |position: usize| match table.get(position / block_size) {
            Some(&block) => Ok((block as usize * block_size + position % block_size) as i64),
            None => bail!("position {position} has no block: the table has {} blocks", table.len()),
        };
        let first = self.rows.first_position;
        (first..first + self.rows.count).map(slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(first_position: usize, tokens: &[u32], blocks: &[u32]) -> SequenceInput {
        let count = tokens.len();
        SequenceInput {
            rows: SequenceRows { first_position, count, logits: count - 1..count, chain_count: 2 },
            tokens: tokens.to_vec(),
            block_table: blocks.to_vec(),
        }
    }

    #[test]
    fn rows_are_written_to_the_blocks_of_their_sequence() {
        let sequences = vec![sequence(3, &[7, 8], &[5, 2]), sequence(0, &[9], &[1])];
        let step = Step::new(sequences, 4, &Split::all_in_first(2, 2)).unwrap();
        assert_eq!(step.chains()[0].slots.as_slice(), [5 * 4 + 3, 2 * 4, 4]);
        assert_eq!(step.chains()[0].positions, [3, 4, 0]);
        // Chain 2 of an Air is needed at the last row of each sequence only.
        assert_eq!(step.chains()[1].slots.as_slice(), [2 * 4, 4]);
        assert_eq!(step.tokens_of_chain(1), [8, 9]);
        assert_eq!(step.tokens_of_sequence(1), [9]);
    }

    #[test]
    fn a_position_without_a_block_is_an_error() {
        let error = Step::new(vec![sequence(3, &[7, 8], &[5])], 4, &Split::all_in_first(2, 2));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("position 4 has no block"), "{error}");
    }

    #[test]
    fn a_row_without_a_token_is_an_error() {
        let mut input = sequence(0, &[7, 8], &[5]);
        input.tokens.pop();
        let error = Step::new(vec![input], 4, &Split::all_in_first(2, 2)).unwrap_err();
        assert!(error.to_string().contains("1 tokens for 2 rows"), "{error}");
    }
}
