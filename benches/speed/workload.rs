//! The requests of a round: the same for all contenders, different in every round.

use super::protocol::GenerationRequest;
use super::shape::PROMPT_TOKENS;

/// Prompt length in tokens of the request after which peak memory is read.
pub const MEMORY_PROMPT: usize = 1024;

/// One request: a prompt of `length` tokens, and `decode` decode steps after the first new token.
pub fn single(length: usize, decode: usize, round: usize) -> Vec<GenerationRequest> {
    vec![GenerationRequest { prompt: prompt(length, round), new_tokens: 1 + decode }]
}

/// `count` requests of unequal length: prompts of 64 to 512 tokens, answers of 16 to 64.
pub fn concurrent(count: usize, round: usize) -> Vec<GenerationRequest> {
    let lengths = (1..=count).map(|index| (64 + index * 149 % 449, 16 + index * 29 % 49));
    let request = |(index, (length, new_tokens))| GenerationRequest {
        prompt: prompt(length, 1000 * round + index),
        new_tokens,
    };
    lengths.enumerate().map(request).collect()
}

/// The number of tokens of all prompts and answers.
pub fn tokens(requests: &[GenerationRequest]) -> usize {
    requests.iter().map(|request| request.prompt.len() + request.new_tokens).sum()
}

fn prompt(length: usize, seed: usize) -> Vec<u32> {
    let token = |at: usize| 1 + (at * at + 31 * at + 977 * seed) % (PROMPT_TOKENS - 1);
    (0..length).map(|at| token(at) as u32).collect()
}
