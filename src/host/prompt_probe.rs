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
use crate::error::Error;

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
    /// Whether a row has no probabilities.
    not_finite: bool,
}

/// As the host says of the logits that a token is sampled from.
const NOT_FINITE: &str =
    "the model's logits are not finite numbers; its weights may hold NaN or infinite values";

/// Whether logits have a softmax: none is NaN, and the largest is finite.
fn is_finite(logits: &[f32]) -> bool {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    largest.is_finite() && !logits.iter().any(|logit| logit.is_nan())
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
                found.not_finite |= rows.iter().take(next.len()).any(|row| !is_finite(row));
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

    /// The log-probabilities found so far. Several answers to one request have the same.
    ///
    /// # Errors
    /// If logits are not finite numbers. The step that computes them does not fail, because it computes others too.
    pub(super) fn logprobs(&self) -> Result<Vec<Logprobs>, Error> {
        let found = self.found();
        if found.not_finite {
            return Err(Error::Failed(NOT_FINITE.into()));
        }
        Ok(found.logprobs.clone())
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        // A poisoned lock is safe to reuse: the request of a step that failed has failed as well.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Infinite logits would make every token impossible, the most likely one included.
    #[test]
    fn rows_without_probabilities_are_an_error() {
        let found = |middle: [f32; 2]| {
            let rows = [[0.0, f32::NEG_INFINITY], middle, [1.0, 2.0]];
            let probe = PromptProbe::logprobs_with(0).of(3);
            let logits = Tensor::new(&rows, &Device::Cpu).unwrap();
            probe.add(&logits, &[0, 1]).unwrap();
            probe.logprobs().map(|logprobs| logprobs.len())
        };
        assert_eq!(found([1.0, 2.0]).unwrap(), 2);
        for middle in [[f32::INFINITY, 0.0], [0.0, f32::NAN], [f32::NEG_INFINITY; 2]] {
            let error = found(middle).unwrap_err().to_string();
            assert!(error.contains("not finite"), "{middle:?}: {error}");
        }
    }
}
