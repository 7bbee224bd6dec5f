//! An answer as text and calls of functions.

use futures::TryStreamExt;

use super::super::tools::{CallFinder, Tools};
use crate::text::Part;
use crate::{AnswerStream, AnswerToken, Error, FinishReason, Usage};

/// An answer in which calls are looked for, as it comes.
pub struct PartStream {
    answer: AnswerStream,
    calls: CallFinder,
    ended: bool,
}

/// What is new in an answer.
pub struct NewParts {
    pub parts: Vec<Part>,
    /// The tokens that have come.
    pub tokens: Vec<AnswerToken>,
    /// At the end: why it ends, and what the answer took.
    pub end: Option<(FinishReason, Usage)>,
}

impl PartStream {
    /// `answer`, in which calls of `tools` are looked for.
    pub fn new(answer: AnswerStream, tools: &Tools) -> Self {
        Self { answer, calls: tools.finder(), ended: false }
    }

    /// What is new; None after the end.
    pub async fn next(&mut self) -> Result<Option<NewParts>, Error> {
        if self.ended {
            return Ok(None);
        }
        let Some(piece) = self.answer.try_next().await? else { return Ok(None) };
        let mut parts = self.calls.push(piece.text);
        let mut end = piece.finish_reason.zip(piece.usage);
        if self.calls.is_full() && end.is_none() {
            end = Some((FinishReason::Stop, self.answer.usage()));
        }
        if let Some((reason, _)) = end {
            parts.extend(self.calls.finish(reason));
            self.ended = true;
        }
        Ok(Some(NewParts { parts, tokens: piece.tokens, end }))
    }
}
