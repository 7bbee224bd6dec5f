//! Counters of the model's work.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use crate::model::speculation::DraftCounters;

/// Counters since the model was loaded.
#[derive(Debug, Default)]
pub struct Counters {
    prompt: AtomicUsize,
    reused: AtomicUsize,
    decoded: AtomicUsize,
    steps: AtomicUsize,
    prompt_work: AtomicUsize,
    prompt_work_saved: AtomicUsize,
    pub(super) drafts: Arc<DraftCounters>,
}

/// A snapshot of the counters of the model's work. The tokens of a preempted sequence, prompt and answer, are counted as
/// prompt tokens again when it resumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Prompt tokens computed.
    pub prompt: usize,
    /// Prompt tokens whose keys and values were found in the prefix cache.
    pub reused: usize,
    /// Decode rows computed.
    pub decoded: usize,
    /// Forward passes.
    pub steps: usize,
    /// Multiply-adds of linear layers for prompts.
    pub prompt_work: usize,
    /// Multiply-adds of linear layers that prefix-chain prefill has saved: those of the chains of a request on prompt
    /// rows that they were not computed on.
    pub prompt_work_saved: usize,
    /// Tokens drafted by the first chain (self-speculation).
    pub drafted: usize,
    /// Drafted tokens that were accepted.
    pub accepted: usize,
}

impl Counters {
    pub(super) fn add_prompt(&self, computed: usize, reused: usize) {
        self.prompt.fetch_add(computed, Ordering::Relaxed);
        self.reused.fetch_add(reused, Ordering::Relaxed);
    }

    pub(super) fn add_decoded(&self, rows: usize) {
        self.decoded.fetch_add(rows, Ordering::Relaxed);
    }

    pub(super) fn add_step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_prompt_work(&self, computed: usize, saved: usize) {
        self.prompt_work.fetch_add(computed, Ordering::Relaxed);
        self.prompt_work_saved.fetch_add(saved, Ordering::Relaxed);
    }

    /// A snapshot of the counters.
    pub fn now(&self) -> Counts {
        Counts {
            prompt: self.prompt.load(Ordering::Relaxed),
            reused: self.reused.load(Ordering::Relaxed),
            decoded: self.decoded.load(Ordering::Relaxed),
            steps: self.steps.load(Ordering::Relaxed),
            prompt_work: self.prompt_work.load(Ordering::Relaxed),
            prompt_work_saved: self.prompt_work_saved.load(Ordering::Relaxed),
            drafted: self.drafts.drafted(),
            accepted: self.drafts.accepted(),
        }
    }
}

impl Counts {
    /// The difference from the snapshot `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            prompt: self.prompt - earlier.prompt,
            reused: self.reused - earlier.reused,
            decoded: self.decoded - earlier.decoded,
            steps: self.steps - earlier.steps,
            prompt_work: self.prompt_work - earlier.prompt_work,
            prompt_work_saved: self.prompt_work_saved - earlier.prompt_work_saved,
            drafted: self.drafted - earlier.drafted,
            accepted: self.accepted - earlier.accepted,
        }
    }
}
