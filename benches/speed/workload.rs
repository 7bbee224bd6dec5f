//! The requests that contenders answer: the same for all of a round, others in every round.

use super::protocol::Ask;
use super::shape::VOCAB;

/// The prompt after which peak memory is read, in tokens.
pub const MEMORY_PROMPT: usize = 1024;

/// A prompt of `length` tokens, then `decode` steps after the one that gives the first new token.
pub fn single(length: usize, decode: usize, round: usize) -> Vec<Ask> {
    vec![Ask { prompt: prompt(length, round), new_tokens: 1 + decode }]
}

/// `count` requests of unequal length: prompts of 64 to 512 tokens, answers of 16 to 64.
pub fn together(count: usize, round: usize) -> Vec<Ask> {
    let lengths = (1..=count).map(|index| (64 + index * 149 % 449, 16 + index * 29 % 49));
    let ask = |(index, (length, new_tokens))| Ask {
        prompt: prompt(length, 1000 * round + index),
        new_tokens,
    };
    lengths.enumerate().map(ask).collect()
}

/// Tokens of all prompts and answers.
pub fn tokens(asks: &[Ask]) -> usize {
    asks.iter().map(|ask| ask.prompt.len() + ask.new_tokens).sum()
}

fn prompt(length: usize, seed: usize) -> Vec<u32> {
    let token = |at: usize| 1 + (at * at + 31 * at + 977 * seed) % (VOCAB - 1);
    (0..length).map(|at| token(at) as u32).collect()
}
