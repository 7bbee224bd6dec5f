//! Self-speculation: the first chain drafts tokens, and one step of all chains checks them.
//!
//! The engine asks for one row of a sequence at a time. Here the first chain goes on alone for some tokens, and
//! the row is computed together with those of the drafts. The logits of the row are the engine's, those after
//! the drafts are kept: while the tokens that come next are the drafted ones, they are the answer, and nothing
//! is computed. So the engine samples from the same logits, bit for bit, as without drafts; only sooner, where
//! the first chain guesses well. A row is a row: the draft is a step at k = 1, the check a step whose sequences
//! have several.
//!
//! Keys and values of drafts go to the rest of the block that holds the row, which is the sequence's own.
//! Those of a token that did not come are written over before any row sees their position.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use candle_core::{Result, Tensor, D};
use colm_checkpoint::ColmConfig;
use colm_kernels::{BlockTables, KvBlocks, Slots};

use super::counters::Counters;
use crate::model::{ActiveRows, Colm, Sequence, Step};

/// The most rows of a check: with more, the products take longer than the weights' way from memory.
const MOST_ROWS: usize = 16;

/// The longest pause after drafts of which none was right, in rows.
const LONGEST_PAUSE: usize = 32;

/// The one row of a decoding sequence.
pub struct Row {
    /// The engine's id of the sequence.
    pub sequence: usize,
    pub token: u32,
    pub position: usize,
    /// k, the number of chains that compute it.
    pub chains: usize,
    /// The sequence's blocks.
    pub blocks: Vec<u32>,
}

/// What is drafted, and what is known of it.
pub struct Speculation {
    /// The most tokens drafted at once; with 0 there are none.
    most: usize,
    sequences: HashMap<usize, Drafts>,
    counters: Arc<Counters>,
}

/// The drafts of one sequence.
#[derive(Default)]
struct Drafts {
    /// The position of the first of `ahead`, and the chains that computed them.
    position: usize,
    chains: usize,
    /// Drafted tokens that have not come yet, the next first, each with the logits after it.
    ahead: VecDeque<(u32, Tensor)>,
    /// How many were drafted last, and how many of them came.
    drafted: usize,
    came: usize,
    /// So many rows are computed without drafts, and as many again and again after drafts in vain.
    pause: usize,
    last_pause: usize,
}

impl Drafts {
    /// The logits after `row`, if it was drafted.
    fn take(&mut self, row: &Row) -> Option<Tensor> {
        let (token, _) = self.ahead.front()?;
        if (*token, self.position, self.chains) != (row.token, row.position, row.chains) {
            return None;
        }
        self.position += 1;
        self.came += 1;
        self.ahead.pop_front().map(|(_, logits)| logits)
    }

    /// How many tokens to draft now: twice as many as came, if all came; else as many as came; after none a
    /// pause.
    fn length(&mut self, most: usize) -> usize {
        if self.pause > 0 {
            self.pause -= 1;
            return 0;
        }
        let (drafted, came) = (self.drafted, self.came);
        (self.drafted, self.came) = (0, 0);
        match drafted {
            0 => most.min(2),
            _ if came == 0 => {
                self.last_pause = (2 * self.last_pause).clamp(1, LONGEST_PAUSE);
                self.pause = self.last_pause - 1;
                0
            }
            _ => {
                self.last_pause = 0;
                if came == drafted {
                    most.min(2 * came)
                } else {
                    came
                }
            }
        }
    }
}

/// Some rows of one sequence: those of `tokens`, from `position` on.
struct Part<'a> {
    row: &'a Row,
    position: usize,
    tokens: Vec<u32>,
    chains: usize,
}

/// What computes.
pub struct Computing<'a> {
    pub colm: &'a Colm,
    pub config: &'a ColmConfig,
    /// One per layer.
    pub kv: &'a [KvBlocks],
}

impl Speculation {
    /// Drafts at most `most` tokens at once.
    pub fn new(most: usize, counters: Arc<Counters>) -> Self {
        Self { most, sequences: HashMap::new(), counters }
    }

    /// Whether there are drafts at all.
    pub fn is_on(&self) -> bool {
        self.most > 0
    }

    /// Forgets what is known of `sequence`: its keys and values are computed anew.
    pub fn forget(&mut self, sequence: usize) {
        self.sequences.remove(&sequence);
    }

    /// The logits after each of `rows`, `[rows, vocab_size]` f32.
    pub fn forward(&mut self, rows: &[Row], computing: &Computing<'_>) -> Result<Tensor> {
        // Sequences that are not in the batch have ended, or come back as if they were new.
        let here: HashSet<usize> = rows.iter().map(|row| row.sequence).collect();
        self.sequences.retain(|sequence, _| here.contains(sequence));
        let mut known: Vec<Option<Tensor>> = rows
            .iter()
            .map(|row| self.sequences.entry(row.sequence).or_default().take(row))
            .collect();
        self.counters.add_drafts(0, known.iter().flatten().count());
        let unknown = rows.iter().zip(&known).filter(|(_, known)| known.is_none());
        let unknown: Vec<&Row> = unknown.map(|(row, _)| row).collect();
        if !unknown.is_empty() {
            let computed = self.check(&unknown, computing)?;
            let places = known.iter_mut().filter(|known| known.is_none());
            places.zip(computed).for_each(|(place, logits)| *place = Some(logits));
        }
        Tensor::stack(&known.into_iter().flatten().collect::<Vec<_>>(), 0)
    }

    /// The logits after each of `rows`; those after their drafts are kept.
    fn check(&mut self, rows: &[&Row], computing: &Computing<'_>) -> Result<Vec<Tensor>> {
        let drafts = self.draft(rows, computing)?;
        let parts = rows.iter().zip(&drafts).map(|(row, drafts)| Part {
            row,
            position: row.position,
            tokens: std::iter::once(row.token).chain(drafts.iter().copied()).collect(),
            chains: row.chains,
        });
        let logits = computing.run(&parts.collect::<Vec<_>>())?;
        let mut first = 0;
        let mut after_rows = Vec::with_capacity(rows.len());
        for (row, drafted) in rows.iter().zip(drafts) {
            after_rows.push(logits.get(first)?);
            let known = self.sequences.entry(row.sequence).or_default();
            (known.position, known.chains) = (row.position + 1, row.chains);
            (known.drafted, known.came) = (drafted.len(), 0);
            known.ahead.clear();
            for (index, token) in drafted.into_iter().enumerate() {
                known.ahead.push_back((token, logits.get(first + 1 + index)?));
            }
            first += 1 + known.drafted;
        }
        Ok(after_rows)
    }

    /// Per row, the tokens that the first chain says come after it.
    fn draft(&mut self, rows: &[&Row], computing: &Computing<'_>) -> Result<Vec<Vec<u32>>> {
        let lengths: Vec<usize> = rows
            .iter()
            .map(|row| {
                let room = (MOST_ROWS / rows.len()).saturating_sub(1).min(computing.room(row));
                let drafts = self.sequences.entry(row.sequence).or_default();
                if row.chains > 1 {
                    drafts.length(self.most).min(room)
                } else {
                    0
                }
            })
            .collect();
        let mut drafts = vec![Vec::new(); rows.len()];
        for turn in 0..lengths.iter().copied().max().unwrap_or(0) {
            let drafting: Vec<usize> = (0..rows.len()).filter(|&at| lengths[at] > turn).collect();
            let parts = drafting.iter().map(|&at| Part {
                row: rows[at],
                position: rows[at].position + turn,
                tokens: vec![drafts[at].last().copied().unwrap_or(rows[at].token)],
                chains: 1,
            });
            let logits = computing.run(&parts.collect::<Vec<_>>())?;
            let tokens = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
            for (at, token) in drafting.into_iter().zip(tokens) {
                drafts[at].push(token);
            }
        }
        self.counters.add_drafts(lengths.iter().sum(), 0);
        Ok(drafts)
    }
}

impl Computing<'_> {
    /// How many positions after `row` have a place in its block and in the context.
    fn room(&self, row: &Row) -> usize {
        let block_size = self.block_size();
        let in_block = block_size - row.position % block_size - 1;
        let in_context = self.config.file.max_position_embeddings.saturating_sub(row.position + 1);
        in_block.min(in_context)
    }

    fn block_size(&self) -> usize {
        self.kv.first().map_or(1, KvBlocks::block_size)
    }

    /// The logits of every row, `[rows, vocab_size]` f32.
    fn run(&self, parts: &[Part<'_>]) -> Result<Tensor> {
        let block_size = self.block_size();
        let (mut sequences, mut tokens, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            let rows = part.tokens.len();
            sequences.push(Sequence {
                first_position: part.position,
                rows,
                logits: 0..rows,
                chains: part.chains,
            });
            tokens.extend_from_slice(&part.tokens);
            for position in part.position..part.position + rows {
                let Some(&block) = part.row.blocks.get(position / block_size) else {
                    candle_core::bail!("position {position} has no block");
                };
                slots.push((block as usize * block_size + position % block_size) as i64);
            }
        }
        let tables = BlockTables::new(parts.iter().map(|part| part.row.blocks.clone()).collect());
        let active = ActiveRows::new(sequences, &self.config.kv_heads)?;
        self.colm.forward(&Step::new(tokens, &Slots::new(slots), tables, active)?, self.kv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(drafted: usize, came: usize, drafts: &mut Drafts) -> usize {
        (drafts.drafted, drafts.came) = (drafted, came);
        drafts.length(8)
    }

    #[test]
    fn drafts_grow_while_they_come_and_shrink_where_they_do_not() {
        let mut drafts = Drafts::default();
        assert_eq!(drafts.length(8), 2);
        assert_eq!(after(2, 2, &mut drafts), 4);
        assert_eq!(after(4, 4, &mut drafts), 8);
        assert_eq!(after(8, 8, &mut drafts), 8);
        assert_eq!(after(8, 3, &mut drafts), 3);
        assert_eq!(after(3, 1, &mut drafts), 1);
        assert_eq!(Drafts::default().length(1), 1);
    }

    #[test]
    fn drafts_in_vain_are_followed_by_ever_longer_pauses() {
        let mut drafts = Drafts::default();
        let mut rows = 0;
        let mut drafted = Vec::new();
        while drafted.len() < 8 {
            let length = drafts.length(8);
            if length > 0 {
                drafted.push(rows);
            }
            // None of them comes.
            (drafts.drafted, drafts.came) = (length, 0);
            rows += 1;
        }
        let gaps: Vec<usize> = drafted.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps, [2, 3, 5, 9, 17, 33, 33]);
    }
}
