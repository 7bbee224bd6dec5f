//! The numbers of one answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Instant;

use super::ByK;
use crate::host::answer_stream::{AnswerEnd, AnswerObserver};
use crate::serve::admission::{ActiveRequest, RunTimes};
use crate::Usage;

/// Records what happens to an answer.
pub struct AnswerMetrics {
    by_k: Arc<ByK>,
    arrived: Instant,
    run_times: RunTimes,
    has_token: AtomicBool,
}

impl AnswerMetrics {
    /// Of an answer to `request`.
    pub fn new(by_k: Arc<ByK>, request: &ActiveRequest) -> Self {
        let (arrived, run_times) = (request.began(), request.run_times());
        Self { by_k, arrived, run_times, has_token: AtomicBool::new(false) }
    }
}

impl AnswerObserver for AnswerMetrics {
    fn first_token(&self, usage: &Usage) {
        self.has_token.store(true, Ordering::Relaxed);
        self.by_k.time_to_first_token.record(self.arrived.elapsed());
        self.by_k.prompt_tokens.increment(usage.prompt_tokens as u64);
    }

    fn token(&self) {
        self.by_k.generation_tokens.increment(1);
    }

    fn ended(&self, end: AnswerEnd, usage: &Usage) {
        let by_k = &self.by_k;
        let reason = match end {
            AnswerEnd::Finished(reason) => reason.as_str(),
            AnswerEnd::Abandoned => "abort",
            AnswerEnd::Failed => "error",
        };
        let ended = by_k.ended.iter().find(|(name, _)| *name == reason);
        ended.into_iter().for_each(|(_, counter)| counter.increment(1));
        if !self.has_token.load(Ordering::Relaxed) {
            return;
        }
        self.run_times.add(usage.prompt_time + usage.decode_time);
        by_k.end_to_end.record(self.arrived.elapsed());
        by_k.prefill.record(usage.prompt_time);
        by_k.decode.record(usage.decode_time);
        by_k.request_prompt_tokens.record(usage.prompt_tokens as f64);
        by_k.request_generation_tokens.record(usage.completion_tokens as f64);
        if let Some(after_first) =
            usage.completion_tokens.checked_sub(1).filter(|tokens| *tokens > 0)
        {
            by_k.time_per_output_token.record(usage.decode_time / after_first as u32);
        }
    }
}
