//! What the model predicts for given tokens: log-probabilities and logits.

use candle_core::Tensor;
use colm_checkpoint::ChainCount;

use super::engine::Engine;
use super::prompt_probe::PromptProbe;
use crate::error::{Error, Result};
use crate::request::Request;

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
            self.start_answer_with(&prepared, None, Some(PromptProbe::all_logits())).await?;
        stream.whole().await?;
        let logits = stream.probe().map(PromptProbe::logits).unwrap_or_default();
        Tensor::cat(&logits, 0).map_err(Error::failed)
    }
}
