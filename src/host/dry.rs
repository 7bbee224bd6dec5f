//! Checks the DRY sampler, as far as the host would ignore a value.

use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};
use crate::sampling::Dry;

impl Dry {
    /// The longest [`allowed_length`](Self::allowed_length). The host compares no more tokens than this.
    pub const MAX_ALLOWED_LENGTH: usize = 50;

    /// Checks the length and the sequence breakers, and chooses these if none are given.
    ///
    /// # Errors
    /// If the length is too large, or if a breaker is not a single token: the host compares tokens.
    pub(super) fn check(&mut self, vocabulary: &Vocabulary) -> Result<()> {
        let (length, most) = (self.allowed_length, Self::MAX_ALLOWED_LENGTH);
        if length > most {
            let problem = format!("{length}: expected at most {most}");
            return Err(Error::InvalidDry { field: "dry_allowed_length", problem });
        }
        let before = tokens_of(BEFORE, vocabulary);
        let is_token = |text: &str| {
            let both = tokens_of(&format!("{BEFORE}{text}"), vocabulary);
            both.strip_prefix(before.as_slice()).is_some_and(|tokens| tokens.len() == 1)
        };
        let Some(given) = &self.sequence_breakers else {
            let default = DEFAULT_BREAKERS.into_iter().filter(|text| is_token(text));
            self.sequence_breakers = Some(default.map(String::from).collect());
            return Ok(());
        };
        match given.iter().find(|text| !is_token(text)) {
            None => Ok(()),
            Some(text) => Err(Error::InvalidDry {
                field: "dry_sequence_breakers",
                problem: format!(
                    "{text:?} is not a single token after a letter: expected a text that is one"
                ),
            }),
        }
    }
}

/// The sequence breakers, as far as they are tokens of the model.
const DEFAULT_BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];

/// What is before a breaker when the host encodes it.
const BEFORE: &str = "a";

fn tokens_of(text: &str, vocabulary: &Vocabulary) -> Vec<u32> {
    vocabulary.encode(text, false).unwrap_or_default()
}
