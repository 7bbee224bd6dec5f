//! Answers of the engine.

use std::fmt;
use std::time::Duration;

/// Why an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FinishReason {
    /// The model has ended it, or a stop string occurred.
    Stop,
    /// It has as many tokens as the request allows, or the context is full.
    Length,
}

impl FinishReason {
    /// The name of the reason in OpenAI's API: `stop` or `length`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

impl fmt::Display for FinishReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The tokens and times of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt whose keys and values were found in the prefix cache.
    pub cached_tokens: usize,
    /// Tokens of the answer, including the one that ends it.
    pub completion_tokens: usize,
    /// The number of chains that computed the answer, k.
    pub chains: usize,
    /// Tokens that the first chain has drafted (self-speculation).
    pub drafted_tokens: usize,
    /// Drafted tokens that were accepted.
    pub accepted_tokens: usize,
    /// From the beginning of the step that computed the prompt to the first token.
    pub prompt_time: Duration,
    /// From the first token to the last.
    pub decode_time: Duration,
}

/// Natural logarithms of probabilities, from the model's logits before penalties, temperature and grammar.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Logprobs {
    /// That of the token.
    pub logprob: f64,
    /// The ids of the most likely tokens, in descending order, and theirs.
    pub top: Vec<(u32, f64)>,
}

/// A token of an answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AnswerToken {
    /// Its id.
    pub id: u32,
    /// Where it begins in the text of the answer, in characters.
    pub offset: usize,
    /// Its log-probability, if the request asks for it.
    pub logprobs: Option<Logprobs>,
    /// Whether it only ends the answer and is not part of its text.
    pub ends_text: bool,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<AnswerToken>,
    /// Why it ends.
    pub finish_reason: FinishReason,
    /// Tokens and times.
    pub usage: Usage,
}

/// A piece of a streamed answer.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Piece {
    /// The text since the last piece.
    pub text: String,
    /// The tokens that begin in it.
    pub tokens: Vec<AnswerToken>,
    /// Why the answer ends; only in the last piece.
    pub finish_reason: Option<FinishReason>,
    /// Tokens and times of the answer; only in the last piece.
    pub usage: Option<Usage>,
}
