//! Log-probabilities as the completions endpoint writes them.

use std::fmt::Write;

use indexmap::IndexMap;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::logprobs::finite;
use crate::host::vocabulary::Vocabulary;
use crate::Logprobs;

/// Those of the tokens of a text, in lists of equal length.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct CompletionLogprobs {
    /// The tokens' texts; `bytes:\xNN..` for what is no whole character.
    pub tokens: Vec<String>,
    /// Natural logarithms; null for a prompt's first token, which nothing predicts.
    pub token_logprobs: Vec<Option<f64>>,
    /// The likeliest tokens in each place, and the one that stands there.
    #[schema(value_type = Vec<Option<Object>>)]
    pub top_logprobs: Vec<Option<IndexMap<String, f64>>>,
    /// Where in the text each token begins, in characters.
    pub text_offset: Vec<usize>,
}

impl CompletionLogprobs {
    /// Adds the token `id` that begins at `offset`.
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

    /// Adds those of the text that follows.
    pub fn extend(&mut self, more: Self) {
        self.tokens.extend(more.tokens);
        self.token_logprobs.extend(more.token_logprobs);
        self.top_logprobs.extend(more.top_logprobs);
        self.text_offset.extend(more.text_offset);
    }
}

/// The text of a token, in a form that no other token has.
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
    fn tokens_that_are_no_characters_have_different_texts() {
        assert_eq!(token_text("né".as_bytes()), "né");
        assert_eq!(token_text(&[0xe2, 0x80]), "bytes:\\xe2\\x80");
    }
}
