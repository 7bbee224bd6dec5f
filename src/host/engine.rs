//! The running engine.

use std::fmt;
use std::sync::Arc;

use colm_checkpoint::{ChainCount, ColmConfig};
use colm_prompt::SamplingDefaults;
use mistralrs_core::MistralRs;

use super::counters::Counts;
use super::grammar::GrammarCompiler;
use super::loaded::Loaded;
use super::prompt::Prompts;
use super::vocabulary::Vocabulary;
use crate::error::Result;

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

    /// The sampling parameters of the model's generation_config.json, for front ends whose users may leave them out.
    /// A [`Request`](crate::Request) does not use them by itself.
    pub fn sampling_defaults(&self) -> &SamplingDefaults {
        &self.sampling_defaults
    }

    /// What the model has computed and reused so far.
    pub fn counts(&self) -> Counts {
        self.loaded.counters().now()
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
