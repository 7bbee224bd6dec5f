//! What a forward pass knows of its sequences in addition to what the engine passes to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{bail, Result};
use colm_checkpoint::ChainCount;
use mistralrs_core::ext::{Extension, Sequence as EngineSequence};

use super::chain_choice::{chain_count_of, ParseChainCountError};
use super::prompt_probe::PromptProbe;
use super::request_options::RequestOptions;
use crate::model::speculation::DraftCounters;

/// The chain count of a request, or why it has none.
pub type RequestedChains = std::result::Result<ChainCount, ParseChainCountError>;

/// The chain count of a request: that of its options, or, for requests of the host's own front ends, that of its model
/// id. `name` is the name that the model is served under, `loaded` the number of chains loaded.
pub fn requested_chains(
    requested_model_id: Option<&str>,
    extension: Option<&Extension>,
    name: Option<&str>,
    loaded: ChainCount,
) -> RequestedChains {
    if let Some(options) = RequestOptions::of(extension) {
        return Ok(options.k);
    }
    match requested_model_id.zip(name) {
        Some((id, name)) => chain_count_of(id, name, loaded),
        None => Ok(loaded),
    }
}

/// One sequence of the next forward pass.
#[derive(Clone)]
pub struct SequencePlan {
    /// The engine's id of the sequence, if it decodes.
    pub decoding: Option<usize>,
    /// Counts the drafts of the request.
    pub drafts: Option<Arc<DraftCounters>>,
    /// k, or the error that fails the step.
    pub chain_count: RequestedChains,
    /// Collects what the request wants to know about its prompt.
    pub probe: Option<Arc<PromptProbe>>,
    /// The token after those that the pass computes, if it is known: the pass computes a chunk of a prompt.
    pub next_token: Option<u32>,
}

impl SequencePlan {
    /// The plan of `sequence`, which runs at `chain_count`.
    pub fn of(sequence: &EngineSequence, chain_count: RequestedChains) -> Self {
        let is_prompt = sequence.is_prompt();
        Self {
            decoding: (!is_prompt).then(|| *sequence.id()),
            drafts: RequestOptions::of(sequence.extension()).map(|options| options.drafts.clone()),
            chain_count,
            probe: is_prompt.then(|| probe_of(sequence)).flatten(),
            next_token: sequence.get_toks().get(sequence.step_tokens().end).copied(),
        }
    }
}

/// The probe of the request of `sequence`, if rows of the prompt are still missing from it.
fn probe_of(sequence: &EngineSequence) -> Option<Arc<PromptProbe>> {
    let probe = RequestOptions::of(sequence.extension())?.probe.clone();
    probe.filter(|probe| probe.is_open())
}

/// The plans of the next forward pass. The engine announces the sequences of a step before it computes them.
#[derive(Default)]
pub struct StepPlan(Mutex<Vec<SequencePlan>>);

impl StepPlan {
    /// Sets the plans of the next forward pass.
    pub fn set(&self, plans: Vec<SequencePlan>) {
        *self.lock() = plans;
    }

    /// Takes the plans of this forward pass of `sequences` sequences. A pass that was not announced (calibration) runs
    /// all `loaded` chains.
    pub fn take(&self, sequences: usize, loaded: ChainCount) -> Result<Vec<SequencePlan>> {
        let plans = std::mem::take(&mut *self.lock());
        match plans.len() {
            0 => {
                let chain_count = Ok(loaded);
                let plan = SequencePlan {
                    decoding: None,
                    drafts: None,
                    chain_count,
                    probe: None,
                    next_token: None,
                };
                Ok(vec![plan; sequences])
            }
            count if count == sequences => Ok(plans),
            count => bail!("begin_step named {count} sequences; the forward pass has {sequences}"),
        }
    }

    /// A poisoned lock is safe to reuse: the value is only ever replaced as a whole.
    fn lock(&self) -> MutexGuard<'_, Vec<SequencePlan>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
