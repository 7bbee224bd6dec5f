//! What a request passes to the model through the engine.

use std::sync::{Arc, OnceLock};

use colm_checkpoint::ChainCount;
use mistralrs_core::ext::Extension;

use super::kv_tier::Fetched;
use super::prompt_probe::PromptProbe;
use crate::model::speculation::DraftCounters;

/// The options of a request that only the model understands. The engine carries them as its
/// [`Extension`](mistralrs_core::ext::Extension).
pub struct RequestOptions {
    /// The chain count, checked against the number of chains loaded.
    pub k: ChainCount,
    /// Collects what the request wants to know about its prompt.
    pub probe: Option<Arc<PromptProbe>>,
    /// The beginning of the prompt as the KV store had it.
    pub fetched: Option<Fetched>,
    /// Counts the drafts of the request.
    pub drafts: Arc<DraftCounters>,
    /// How many tokens of the prompt the prefix cache had when the request was first admitted. After preemption the cache
    /// has the request's own blocks as well.
    pub cached_tokens: Arc<OnceLock<usize>>,
}

impl RequestOptions {
    /// The options in `extension`; None for a request that does not come from [`Engine`](crate::Engine).
    pub fn of(extension: Option<&Extension>) -> Option<&Self> {
        extension?.downcast_ref()
    }
}
