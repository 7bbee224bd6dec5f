//! [`Sampling`] in the host's terms.

use mistralrs_core::{DrySamplingParams, SamplingParams, StopTokens};

use crate::sampling::Sampling;

/// The host's parameters for an answer of at most `max_tokens` tokens that ends with any of `stop_tokens`.
pub fn sampling_params(
    sampling: &Sampling,
    max_tokens: Option<usize>,
    stop_tokens: Vec<u32>,
) -> SamplingParams {
    // A top_p of 0 and a min_p of 1 keep only the most likely token: greedy sampling.
    let greedy = sampling.top_p == Some(0.) || sampling.min_p.is_some_and(|min_p| min_p >= 1.);
    let dry_params = sampling.dry.clone().map(|dry| DrySamplingParams {
        multiplier: dry.multiplier,
        base: dry.base,
        allowed_length: dry.allowed_length,
        // `Dry::check` has chosen them.
        sequence_breakers: dry.sequence_breakers.unwrap_or_default(),
    });
    SamplingParams {
        temperature: Some(if greedy { 0. } else { sampling.temperature }),
        top_p: sampling.top_p.filter(|_| !greedy),
        top_k: sampling.top_k,
        min_p: sampling.min_p.filter(|_| !greedy),
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        repetition_penalty: sampling.repetition_penalty,
        dry_params,
        max_len: max_tokens,
        stop_toks: Some(StopTokens::Ids(stop_tokens)),
        ..SamplingParams::neutral()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_nucleus_and_a_min_p_of_1_are_greedy() {
        for (top_p, min_p, greedy) in [
            (Some(0.), None, true),
            (None, Some(1.), true),
            (Some(0.1), Some(0.9), false),
            (None, None, false),
        ] {
            let sampling = Sampling { temperature: 1.5, top_p, min_p, ..Sampling::default() };
            let params = sampling_params(&sampling, None, Vec::new());
            let expected = if greedy { (0., None, None) } else { (1.5, top_p, min_p) };
            assert_eq!((params.temperature.unwrap(), params.top_p, params.min_p), expected);
        }
    }
}
