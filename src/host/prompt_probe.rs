//! Log-probabilities and logits of a prompt's own tokens, collected while the prompt is computed.
//!
//! The engine asks a model for the logits after the prompt's last token only. A request that needs more carries a
//! [`PromptProbe`]. The model then runs its head on all rows of the prompt, a few rows at a time, and adds the
//! results to the probe, so that the logits of a long prompt are never in memory all at once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;
use mistralrs_core::ext::TokenLogprobs;
use rayon::prelude::*;

use crate::answer::Logprobs;

/// Rows of logits that exist at once.
pub const ROWS_AT_ONCE: usize = 32;

/// Collects what a request wants to know about its prompt.
pub struct PromptProbe {
    wanted: Wanted,
    /// Tokens of the prompt.
    tokens: usize,
    found: Mutex<Found>,
}

#[derive(Clone, Copy)]
enum Wanted {
    /// Log-probabilities, with those of the `top` most likely tokens.
    Logprobs { top: usize },
    /// All logits.
    Logits,
}

#[derive(Default)]
struct Found {
    /// Rows seen so far.
    rows: usize,
    logprobs: Vec<Logprobs>,
    logits: Vec<Tensor>,
}

impl PromptProbe {
    /// For the log-probabilities of the tokens, and of the `top` most likely ones at each place.
    pub(super) fn logprobs_with(top: usize) -> Self {
        Self { wanted: Wanted::Logprobs { top }, tokens: 0, found: Mutex::default() }
    }

    /// For all logits.
    pub(super) fn all_logits() -> Self {
        Self { wanted: Wanted::Logits, tokens: 0, found: Mutex::default() }
    }

    /// Of a prompt of `tokens` tokens.
    pub(super) fn of(self, tokens: usize) -> Self {
        Self { tokens, ..self }
    }

    /// Whether rows are missing: a sequence that was preempted is computed again.
    pub(super) fn is_open(&self) -> bool {
        self.found().rows < self.tokens
    }

    /// Forgets the rows found so far: the sequence was preempted and is computed from its first row.
    pub(super) fn start(&self) {
        *self.found() = Found::default();
    }

    /// Adds the logits, `[rows, vocab_size]` f32, after the prompt's next rows, which are followed by the
    /// tokens `next`; the last row of the prompt is followed by none.
    pub(super) fn add(&self, logits: &Tensor, next: &[u32]) -> candle_core::Result<()> {
        let mut found = self.found();
        let rows = logits.dim(0)?.min(self.tokens - found.rows);
        found.rows += rows;
        match self.wanted {
            Wanted::Logits => found.logits.push(logits.narrow(0, 0, rows)?),
            Wanted::Logprobs { top } => {
                let rows = logits.to_vec2::<f32>()?;
                let of_row = |(row, &token): (&Vec<f32>, &u32)| {
                    Logprobs::from(TokenLogprobs::of(row, token, top))
                };
                found.logprobs.par_extend(rows.par_iter().zip(next).map(of_row));
            }
        }
        Ok(())
    }

    /// Takes the logits found so far, in parts of a few rows.
    pub(super) fn logits(&self) -> Vec<Tensor> {
        std::mem::take(&mut self.found().logits)
    }

    /// Takes the log-probabilities found so far.
    pub(super) fn logprobs(&self) -> Vec<Logprobs> {
        std::mem::take(&mut self.found().logprobs)
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        // A poisoned lock is safe to reuse: the request of a step that failed has failed as well.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
