//! Checks the DRY sampler, as far as the host would ignore a value.

use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};
use crate::sampling::Dry;

impl Dry {
    /// The longest [`allowed_length`](Self::allowed_length). The host compares no more tokens than this.
    pub const MAX_ALLOWED_LENGTH: usize = 50;

    /// Checks the length and the sequence breakers. A default breaker that is not a token of the model is left out.
    ///
    /// # Errors
    /// If the length is too large, or if a breaker is not a single token: the host compares tokens.
    pub(super) fn check(&mut self, vocabulary: &Vocabulary) -> Result<()> {
        if self.allowed_length > Self::MAX_ALLOWED_LENGTH {
            return Err(Error::InvalidDry {
                field: "dry_allowed_length",
                problem: format!(
                    "{}: expected at most {}",
                    self.allowed_length,
                    Self::MAX_ALLOWED_LENGTH
                ),
            });
        }
        let is_token = |breaker: &String| is_single_token(breaker, vocabulary);
        if self.sequence_breakers == Self::new(0.).sequence_breakers {
            self.sequence_breakers.retain(is_token);
        }
        match self.sequence_breakers.iter().find(|breaker| !is_token(breaker)) {
            None => Ok(()),
            Some(breaker) => Err(Error::InvalidDry {
                field: "dry_sequence_breakers",
                problem: format!(
                    "{breaker:?} is not a single token of this model: expected a text that is one"
                ),
            }),
        }
    }
}

/// Whether `text` is one token where it follows a letter.
fn is_single_token(text: &str, vocabulary: &Vocabulary) -> bool {
    const BEFORE: &str = "a";
    let encode = |text: &str| vocabulary.encode(text, false).unwrap_or_default();
    let (before, both) = (encode(BEFORE), encode(&format!("{BEFORE}{text}")));
    both.strip_prefix(before.as_slice()).is_some_and(|tokens| tokens.len() == 1)
}
