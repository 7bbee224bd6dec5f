//! Log-probabilities in the format of OpenAI's chat endpoint.

use serde::Serialize;
use utoipa::ToSchema;

use crate::host::vocabulary::Vocabulary;
use crate::{AnswerToken, Logprobs};

/// The log-probabilities of an answer's tokens.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatLogprobs {
    content: Vec<TokenLogprob>,
    refusal: Option<Vec<TokenLogprob>>,
}

/// The log-probability of a token.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TokenLogprob {
    token: String,
    /// The natural logarithm of the probability, before penalties and temperature.
    logprob: f64,
    /// The bytes of the token, which may be part of a UTF-8 character.
    bytes: Vec<u8>,
    top_logprobs: Vec<TopLogprob>,
}

/// The log-probability of one of the most likely tokens.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TopLogprob {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
}

impl ChatLogprobs {
    pub fn new(content: Vec<TokenLogprob>) -> Self {
        Self { content, refusal: None }
    }

    /// Appends the log-probabilities of the next tokens.
    pub fn extend(&mut self, more: Self) {
        self.content.extend(more.content);
    }
}

impl TokenLogprob {
    /// The log-probability of `token`. None if it has none, or if the token ends the text.
    pub fn from_token(token: &AnswerToken, vocabulary: &Vocabulary) -> Option<Self> {
        if token.ends_text {
            return None;
        }
        let Logprobs { logprob, top } = token.logprobs.as_ref()?;
        let top = top.iter().map(|&(id, logprob)| {
            let bytes = vocabulary.bytes(id);
            TopLogprob { token: text(bytes), logprob: finite(logprob), bytes: bytes.to_vec() }
        });
        let bytes = vocabulary.bytes(token.id);
        Some(Self {
            token: text(bytes),
            logprob: finite(*logprob),
            bytes: bytes.to_vec(),
            top_logprobs: top.collect(),
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// JSON has no infinity. OpenAI writes -9999 for a token that cannot be sampled.
pub fn finite(logprob: f64) -> f64 {
    logprob.max(-9999.)
}
