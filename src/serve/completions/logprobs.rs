//! Log-probabilities in the format of OpenAI's completions endpoint.

use std::fmt::Write;

use indexmap::IndexMap;
use serde::Serialize;
use utoipa::ToSchema;

use crate::host::vocabulary::Vocabulary;
use crate::serve::logprobs::finite;
use crate::Logprobs;

/// The log-probabilities of the tokens of a text, as lists of equal length.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct CompletionLogprobs {
    /// The text of each token, or `bytes:\xNN..` if it is not valid UTF-8.
    pub tokens: Vec<String>,
    /// The natural logarithm of the probability of each token. null for the first token of a prompt, which is not
    /// predicted.
    pub token_logprobs: Vec<Option<f64>>,
    /// The most likely tokens at each position, and the token at that position.
    #[schema(value_type = Vec<Option<Object>>)]
    pub top_logprobs: Vec<Option<IndexMap<String, f64>>>,
    /// The offset of each token in the text, in characters.
    pub text_offset: Vec<usize>,
}

impl CompletionLogprobs {
    /// Appends the token `id`, which begins at `offset`.
    pub fn push(
        &mut self,
        id: u32,
        offset: usize,
        logprobs: Option<&Logprobs>,
        vocabulary: &Vocabulary,
    ) {
        let name = |id: u32| token_text(vocabulary.bytes(id));
        let top = logprobs.map(|logprobs| {
            let top = logprobs.top.iter().map(|&(id, logprob)| (name(id), finite(logprob)));
            let mut top: IndexMap<String, f64> = top.collect();
            top.entry(name(id)).or_insert(finite(logprobs.logprob));
            top
        });
        self.tokens.push(name(id));
        self.token_logprobs.push(logprobs.map(|logprobs| finite(logprobs.logprob)));
        self.top_logprobs.push(top);
        self.text_offset.push(offset);
    }

    /// Appends the log-probabilities of the text that follows.
    pub fn extend(&mut self, more: Self) {
        self.tokens.extend(more.tokens);
        self.token_logprobs.extend(more.token_logprobs);
        self.top_logprobs.extend(more.top_logprobs);
        self.text_offset.extend(more.text_offset);
    }
}

/// The text of a token, unique even if the token is not valid UTF-8.
fn token_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.iter().fold("bytes:".into(), |mut text, byte| {
            let _ = write!(text, "\\x{byte:02x}");
            text
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_utf8_is_written_as_bytes() {
        assert_eq!(token_text("né".as_bytes()), "né");
        assert_eq!(token_text(&[0xe2, 0x80]), "bytes:\\xe2\\x80");
    }
}
