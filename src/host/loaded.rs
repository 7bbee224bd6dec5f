//! What is known about a model once it is loaded.

use std::sync::{Arc, OnceLock};

use colm_checkpoint::{ChainCount, ColmConfig, ModelConfig};
use colm_prompt::PromptFolder;

use super::counters::Counters;
use super::kv_tier::{KvIdentity, PrefillRate};

/// What is known about a model once it is loaded.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The name that the engine serves it under; None if a front end of the host loads it.
    name: Option<String>,
    pub(super) model: OnceLock<(ModelConfig, ChainCount)>,
    pub(super) prompt_folder: OnceLock<Arc<PromptFolder>>,
    pub(super) kv_identity: OnceLock<KvIdentity>,
    counters: Arc<Counters>,
    prefill_rate: PrefillRate,
}

impl Loaded {
    /// A model that is going to be served as `name`.
    pub fn named(name: &str) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// The name that the engine serves it under.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The config, and the number of chains loaded. None before a model is loaded.
    pub fn model(&self) -> Option<(&ColmConfig, ChainCount)> {
        self.model.get().map(|(model, chains)| (model.colm(), *chains))
    }

    /// The tokenizer, the chat template and the sampling defaults. None before a model is loaded.
    pub fn prompt_folder(&self) -> Option<&Arc<PromptFolder>> {
        self.prompt_folder.get()
    }

    /// What keys and values depend on. None without a KV store.
    pub fn kv_identity(&self) -> Option<&KvIdentity> {
        self.kv_identity.get()
    }

    /// How fast the model computes prompts.
    pub fn prefill_rate(&self) -> &PrefillRate {
        &self.prefill_rate
    }

    /// The running totals of the model's work.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
