//! The running engine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use candle_core::Tensor;
use colm_checkpoint::{ChainCount, ColmConfig};
use colm_prompt::SamplingDefaults;
use mistralrs_core::ext::SchedulerStats;
use mistralrs_core::MistralRs;

use super::answer_stream::AnswerStream;
use super::counters::Counts;
use super::grammar::GrammarCompiler;
use super::kv_tier::{KvTier, KvTierCounts};
use super::loaded::Loaded;
use super::prompt::Prompts;
use super::prompt_probe::PromptProbe;
use super::vocabulary::Vocabulary;
use crate::answer::Answer;
use crate::error::{Error, Result};
use crate::request::{Message, Request};

/// A running engine with one model, which answers each request at the chain count that the request asks for.
///
/// Clones are handles of the same engine. It stops when the last one is dropped.
#[derive(Clone)]
pub struct Engine {
    pub(super) host: Arc<MistralRs>,
    pub(super) name: String,
    pub(super) loaded: Arc<Loaded>,
    pub(super) prompts: Prompts,
    pub(super) sampling_defaults: SamplingDefaults,
    pub(super) grammars: Arc<GrammarCompiler>,
    pub(super) max_seqs: usize,
    pub(super) block_size: usize,
    pub(super) load_time: Duration,
    pub(super) scheduler: Arc<SchedulerStats>,
    pub(super) kv_tier: Option<Arc<KvTier>>,
}

impl Engine {
    /// The name under which the model is served. `NAME@k` is the model at k chains.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The config of the model.
    pub fn config(&self) -> &ColmConfig {
        self.model().0
    }

    /// The number of chains loaded.
    pub fn loaded_chains(&self) -> ChainCount {
        self.model().1
    }

    /// `k` of the loaded chains.
    ///
    /// # Errors
    /// If `k` is 0 or more than are loaded.
    pub fn chain_count(&self, k: usize) -> Result<ChainCount> {
        Ok(ChainCount::new(k, self.loaded_chains().get())?)
    }

    /// Every chain count that the engine answers at: 1 to [`Self::loaded_chains`].
    pub fn chain_counts(&self) -> impl Iterator<Item = ChainCount> {
        let n = self.loaded_chains().get();
        (1..=n).filter_map(move |k| ChainCount::new(k, n).ok())
    }

    /// The longest sequence in tokens, prompt and answer together: the model's context, or what the KV cache holds.
    pub fn max_tokens(&self) -> usize {
        let known = self.host.max_sequence_length(None).ok().flatten();
        known.unwrap_or(self.config().file.max_position_embeddings)
    }

    /// How many sequences run at once.
    pub fn max_seqs(&self) -> usize {
        self.max_seqs
    }

    /// Positions per KV block.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// How long loading the model and starting the engine took.
    pub fn load_time(&self) -> Duration {
        self.load_time
    }

    /// The queue, the running sequences and the KV blocks, after the latest step.
    pub(crate) fn scheduler(&self) -> &SchedulerStats {
        &self.scheduler
    }

    /// The sampling parameters of the model's generation_config.json, for front ends whose users may leave them out.
    /// A [`Request`] does not use them by itself.
    pub fn sampling_defaults(&self) -> &SamplingDefaults {
        &self.sampling_defaults
    }

    /// Answers a conversation greedily, at all loaded chains. [`Request::chat`] with [`Self::answer`] has more
    /// options.
    ///
    /// # Errors
    /// As [`Self::answer`]; also if the model has no chat template.
    pub async fn chat(&self, messages: impl IntoIterator<Item = Message>) -> Result<Answer> {
        self.answer(Request::chat(messages)).await
    }

    /// Answers `request`.
    ///
    /// # Errors
    /// If something in the request is wrong, or if the engine fails.
    pub async fn answer(&self, request: Request) -> Result<Answer> {
        self.stream(request).await?.answer().await
    }

    /// Answers `request` piece by piece.
    ///
    /// # Errors
    /// If something in the request is wrong. If the engine fails later, the stream ends with an error.
    pub async fn stream(&self, request: Request) -> Result<AnswerStream> {
        let prepared = self.prepare(request).await?;
        self.start_answer(&prepared, prepared.seed(), None).await
    }

    /// The tokens of `text`, with the special tokens that the tokenizer adds to every text.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub async fn tokenize(&self, text: &str) -> Result<Vec<u32>> {
        self.prompts().tokenize_unlimited(text.into()).await
    }

    /// The natural log-probability of each of `tokens` except the first, given the tokens before it, at `k` chains.
    ///
    /// # Errors
    /// If there are no tokens, more than [`Self::max_tokens`], or unknown ones; if `k` is more than
    /// [`Self::loaded_chains`]; or if the engine fails.
    pub async fn score(&self, tokens: Vec<u32>, k: ChainCount) -> Result<Vec<f64>> {
        let request = Request::tokens(tokens).chains(k).max_tokens(0).prompt_logprobs(0);
        let mut stream = self.stream(request).await?;
        stream.answer().await?;
        Ok(stream.prompt_logprobs()?.into_iter().map(|one| one.logprob).collect())
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
        stream.answer().await?;
        let logits = stream.probe().map(PromptProbe::logits).unwrap_or_default();
        Tensor::cat(&logits, 0).map_err(Error::failed)
    }

    /// What the model has computed and reused so far.
    pub fn counts(&self) -> Counts {
        self.loaded.counters().now()
    }

    /// What the KV store has done so far. None without one.
    pub(crate) fn kv_store_counts(&self) -> Option<KvTierCounts> {
        self.kv_tier.as_ref().map(|tier| tier.counts())
    }

    /// Asks the KV store which blocks of a prompt it has for an answer at `k` chains, so that others are written again.
    pub(crate) async fn refresh_stored(&self, prompt: &[u32], k: ChainCount) {
        if let Some(tier) = &self.kv_tier {
            tier.refresh_stored(prompt, k).await;
        }
    }

    /// Waits until the full blocks of a prompt that was answered at `k` chains are in the KV store, and returns how many
    /// tokens they hold.
    pub(crate) async fn stored_tokens(&self, prompt: &[u32], k: ChainCount) -> usize {
        match &self.kv_tier {
            Some(tier) => tier.stored_tokens(prompt, k).await,
            None => 0,
        }
    }

    /// Waits until the KV blocks computed so far have been written to the KV store, or have failed. Without a store, this
    /// returns at once. Blocks are written without it too; it is for programs that are about to end.
    pub async fn flush_kv_store(&self) {
        if let Some(tier) = &self.kv_tier {
            tier.flush().await;
        }
    }

    /// Leaves the KV store alone while `paused`: requests that arrive read nothing from it, and blocks that are computed
    /// are not written, then or later. For programs that measure what a store saves and costs.
    pub fn pause_kv_store(&self, paused: bool) {
        if let Some(tier) = &self.kv_tier {
            tier.pause(paused);
        }
    }

    /// When the engine was started, in seconds since 1970.
    pub fn created(&self) -> u64 {
        self.host.get_creation_time()
    }

    /// Whether the engine takes requests. If not, it has been stopped or has failed.
    pub fn accepts_requests(&self) -> bool {
        self.host.get_sender(None).is_ok_and(|sender| !sender.is_closed())
    }

    /// The engine of mistral.rs underneath, for front ends written for it.
    pub fn host(&self) -> &Arc<MistralRs> {
        &self.host
    }

    pub(crate) fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    pub(super) fn grammars(&self) -> &GrammarCompiler {
        &self.grammars
    }

    /// The model's tokens.
    pub(crate) fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.prompts.vocabulary
    }

    fn model(&self) -> (&ColmConfig, ChainCount) {
        self.loaded.model().expect("the builder has loaded a model")
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("name", &self.name)
            .field("chains", &self.loaded_chains())
            .finish_non_exhaustive()
    }
}
