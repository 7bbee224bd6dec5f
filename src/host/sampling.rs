//! [`Sampling`] in the host's terms.

use mistralrs_core::{DrySamplingParams, SamplingParams, StopTokens};

use crate::sampling::Sampling;

/// The host's parameters for an answer of at most `max_tokens` tokens that ends with any of `stop_tokens`.
pub fn sampling_params(
    sampling: &Sampling,
    max_tokens: Option<usize>,
    stop_tokens: Vec<u32>,
) -> SamplingParams {
    let dry_params = sampling.dry.clone().map(|dry| DrySamplingParams {
        multiplier: dry.multiplier,
        base: dry.base,
        allowed_length: dry.allowed_length,
        sequence_breakers: dry.sequence_breakers,
    });
    SamplingParams {
        temperature: Some(sampling.temperature),
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        repetition_penalty: sampling.repetition_penalty,
        dry_params,
        max_len: max_tokens,
        stop_toks: Some(StopTokens::Ids(stop_tokens)),
        ..SamplingParams::neutral()
    }
}
