//! Self-speculation: the first chain drafts tokens, and one step at the k chains of the request verifies them.
//!
//! The engine asks for the logits of one row per decoding sequence. Speculation drafts a few further tokens with
//! chain 1 alone and computes their rows in the same step as the row that was asked for. The engine gets the
//! logits of its row; the logits after each draft are kept. When the engine samples the drafted token, the draft
//! is *accepted*: its logits are already known and nothing is computed. When it samples another token, the
//! remaining drafts are *rejected* and dropped. The engine therefore samples from the same logits, bit for bit,
//! as without drafts. Drafting is a step at k = 1 and verification is a step whose sequences have several rows
//! (see [`ActiveRows`](super::ActiveRows)).
//!
//! Keys and values of drafts are written to the rest of the sequence's last block, which no other sequence reads.
//! Those of rejected drafts are overwritten before a query can see their positions.

mod drafts;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Tensor, D};
use colm_kernels::KvBlocks;

use super::active_rows::SequenceRows;
use super::colm::Colm;
use super::step::SequenceInput;
use drafts::Drafts;

/// The most rows of a verification step. With more rows, matrix products are limited by arithmetic and no longer
/// by reading the weights, so further rows are not free.
const MAX_VERIFIED_ROWS: usize = 16;

/// The one row of a decoding sequence.
#[derive(Clone, Debug)]
pub struct DecodeRow {
    /// The engine's id of the sequence.
    pub sequence: usize,
    /// Counts the drafts of its request, separately from those of all requests.
    pub counters: Option<Arc<DraftCounters>>,
    /// The newest token.
    pub token: u32,
    /// Its position.
    pub position: usize,
    /// k, the number of chains that compute it.
    pub chain_count: usize,
    /// The sequence's block table.
    pub block_table: Vec<u32>,
}

/// What a forward pass runs on.
pub struct ForwardContext<'a> {
    /// The model.
    pub colm: &'a Colm,
    /// The KV cache, one per layer.
    pub kv: &'a [KvBlocks],
}

/// Running totals of drafted and accepted tokens.
#[derive(Debug, Default)]
pub struct DraftCounters {
    drafted: AtomicUsize,
    accepted: AtomicUsize,
}

impl DraftCounters {
    fn add_drafted(&self, tokens: usize) {
        self.drafted.fetch_add(tokens, Ordering::Relaxed);
    }

    fn add_accepted(&self, tokens: usize) {
        self.accepted.fetch_add(tokens, Ordering::Relaxed);
    }

    /// Tokens that the first chain has drafted.
    pub fn drafted(&self) -> usize {
        self.drafted.load(Ordering::Relaxed)
    }

    /// Drafted tokens that were accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// Drafts tokens and keeps the logits after them.
pub struct Speculation {
    /// The most tokens drafted at once; 0 turns speculation off.
    max_drafts: usize,
    /// By the engine's id of the sequence. Locked before and after a forward pass, never during one.
    sequences: Mutex<HashMap<usize, Drafts>>,
    counters: Arc<DraftCounters>,
}

impl Speculation {
    /// Drafts at most `max_drafts` tokens at once; with 0 [`Self::is_on`] is false.
    pub fn new(max_drafts: usize, counters: Arc<DraftCounters>) -> Self {
        Self { max_drafts, sequences: Mutex::default(), counters }
    }

    /// Whether tokens are drafted at all.
    pub fn is_on(&self) -> bool {
        self.max_drafts > 0
    }

    /// Drops the drafts of `sequence`, whose keys and values are going to be computed again.
    pub fn forget(&self, sequence: usize) {
        self.sequences().remove(&sequence);
    }

    /// The logits after each of the rows of a batch that is an accepted draft, `[vocab_size]` f32. Sequences that do not
    /// decode have no row and no logits.
    pub fn accept(&self, rows: &[Option<DecodeRow>]) -> Vec<Option<Tensor>> {
        let mut sequences = self.sequences();
        // A sequence that is not in the batch has ended, or comes back as if it were new.
        let in_batch: HashSet<usize> = rows.iter().flatten().map(|row| row.sequence).collect();
        sequences.retain(|sequence, _| in_batch.contains(sequence));
        let accepted = rows.iter().map(|row| {
            let row = row.as_ref()?;
            let logits = sequences.entry(row.sequence).or_default().accept(row)?;
            self.count(row, |counters| counters.add_accepted(1));
            Some(logits)
        });
        accepted.collect()
    }

    /// The logits after each of `rows`, `[rows, vocab_size]` f32. Those after the drafted tokens are kept.
    pub fn draft_and_verify(
        &self,
        rows: &[DecodeRow],
        context: &ForwardContext<'_>,
    ) -> Result<Tensor> {
        let drafts = self.draft(rows, context)?;
        let verified = rows.iter().zip(&drafts).map(|(row, drafts)| {
            let tokens = std::iter::once(row.token).chain(drafts.iter().copied());
            input(row, row.position, tokens.collect(), row.chain_count)
        });
        let logits = context.logits(verified.collect())?;
        let mut sequences = self.sequences();
        let mut first = 0;
        let mut after_rows = Vec::with_capacity(rows.len());
        for (row, drafted) in rows.iter().zip(drafts) {
            after_rows.push(logits.get(first)?);
            let rows = 1 + drafted.len();
            let after_drafts = (first + 1..first + rows).map(|row| logits.get(row));
            let drafted = drafted.into_iter().zip(after_drafts);
            let drafted = drafted.map(|(token, logits)| Ok((token, logits?)));
            sequences.entry(row.sequence).or_default().keep(row, drafted.collect::<Result<_>>()?);
            first += rows;
        }
        Tensor::stack(&after_rows, 0)
    }

    /// Per row, the tokens that the first chain predicts after it.
    fn draft(&self, rows: &[DecodeRow], context: &ForwardContext<'_>) -> Result<Vec<Vec<u32>>> {
        let lengths = self.draft_lengths(rows, context);
        let mut drafts = vec![Vec::new(); rows.len()];
        for round in 0..lengths.iter().copied().max().unwrap_or(0) {
            let drafting: Vec<usize> =
                (0..rows.len()).filter(|&row| lengths[row] > round).collect();
            let inputs = drafting.iter().map(|&index| {
                let row = &rows[index];
                let token = drafts[index].last().copied().unwrap_or(row.token);
                input(row, row.position + round, vec![token], 1)
            });
            let logits = context.logits(inputs.collect())?;
            let tokens = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
            for (index, token) in drafting.into_iter().zip(tokens) {
                drafts[index].push(token);
            }
        }
        for (row, length) in rows.iter().zip(lengths) {
            self.count(row, |counters| counters.add_drafted(length));
        }
        Ok(drafts)
    }

    /// Per row, how many tokens to draft after it.
    fn draft_lengths(&self, rows: &[DecodeRow], context: &ForwardContext<'_>) -> Vec<usize> {
        let mut sequences = self.sequences();
        let per_row = (MAX_VERIFIED_ROWS / rows.len()).saturating_sub(1);
        let length = |row: &DecodeRow| {
            let room = per_row.min(context.free_positions(row));
            if row.chain_count == 1 || room == 0 {
                return 0;
            }
            let wanted = sequences.entry(row.sequence).or_default().next_length(self.max_drafts);
            wanted.min(room)
        };
        rows.iter().map(length).collect()
    }

    /// Counts with the counters of all requests and with those of the request of `row`.
    fn count(&self, row: &DecodeRow, add: impl Fn(&DraftCounters)) {
        add(&self.counters);
        row.counters.as_deref().into_iter().for_each(add);
    }

    /// A poisoned lock is safe to reuse: each change is complete within one statement, or only drops drafts.
    fn sequences(&self) -> MutexGuard<'_, HashMap<usize, Drafts>> {
        self.sequences.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows of the sequence of `row`: those of `tokens`, from `position` on, with the logits of each.
fn input(row: &DecodeRow, position: usize, tokens: Vec<u32>, chain_count: usize) -> SequenceInput {
    let count = tokens.len();
    let rows = SequenceRows { first_position: position, count, logits: 0..count, chain_count };
    SequenceInput { rows, tokens, block_table: row.block_table.clone() }
}

impl ForwardContext<'_> {
    /// How many positions after `row` are both in its block and in the model's context.
    fn free_positions(&self, row: &DecodeRow) -> usize {
        let block_size = self.block_size();
        let in_block = block_size - row.position % block_size - 1;
        let longest = self.colm.config().file.max_position_embeddings;
        let in_context = longest.saturating_sub(row.position + 1);
        in_block.min(in_context)
    }

    fn block_size(&self) -> usize {
        self.kv.first().map_or(1, KvBlocks::block_size)
    }

    /// The logits that `sequences` request, `[rows, vocab_size]` f32.
    fn logits(&self, sequences: Vec<SequenceInput>) -> Result<Tensor> {
        let step = self.colm.step(sequences, self.block_size())?;
        self.colm.forward(&step, self.kv)
    }
}
