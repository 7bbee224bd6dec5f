//! Log-probabilities and logits of a prompt's own tokens, collected while the prompt is computed.
//!
//! The engine asks a model for the logits after the prompt's last token only. A request that needs more carries a
//! [`PromptProbe`]. The model then runs its head on all rows of the prompt, a few rows at a time, and adds the
//! results to the probe, so that the logits of a long prompt are never in memory all at once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;
use colm_checkpoint::ChainCount;
use mistralrs_core::ext::TokenLogprobs;
use rayon::prelude::*;

use super::engine::Engine;
use crate::answer::Logprobs;
use crate::error::{Error, Result};
use crate::request::Request;

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
    /// Log-probabilities, with so many of the likeliest tokens.
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
    /// For the log-probabilities of the tokens, with those of the `top` likeliest.
    pub(super) fn logprobs_with(top: usize) -> Self {
        Self { wanted: Wanted::Logprobs { top }, tokens: 0, found: Mutex::default() }
    }

    fn logits() -> Self {
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

    /// Forgets a step that failed.
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

    pub(super) fn logprobs(&self) -> Vec<Logprobs> {
        std::mem::take(&mut self.found().logprobs)
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        // A poisoned lock is safe to reuse: a step that failed is forgotten by `start`.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// The natural log-probability of each of `tokens` except the first, given the tokens before it, at `k` chains.
    ///
    /// # Errors
    /// If there are no tokens, more than [`Self::max_tokens`], or unknown ones.
    pub async fn score(&self, tokens: Vec<u32>, k: ChainCount) -> Result<Vec<f64>> {
        let request = Request::tokens(tokens).chains(k).max_tokens(0).prompt_logprobs(0);
        let mut stream = self.stream(request).await?;
        stream.whole().await?;
        Ok(stream.prompt_logprobs().into_iter().map(|one| one.logprob).collect())
    }

    /// The logits after each of `tokens` at `k` chains, `[tokens, vocab_size]` f32. Much larger than the result of
    /// [`Self::score`].
    ///
    /// # Errors
    /// As [`Self::score`].
    pub async fn logits(&self, tokens: Vec<u32>, k: ChainCount) -> Result<Tensor> {
        let request = Request::tokens(tokens).chains(k).max_tokens(0);
        let prepared = self.prepare(request).await?;
        let mut stream =
            self.start_answer_with(&prepared, None, Some(PromptProbe::logits())).await?;
        stream.whole().await?;
        let found = stream.probe().map(|probe| std::mem::take(&mut probe.found().logits));
        Tensor::cat(&found.unwrap_or_default(), 0).map_err(Error::failed)
    }
}
