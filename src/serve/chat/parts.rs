//! An answer as text and tool calls.

use futures::TryStreamExt;

use crate::serve::tools::{CallFinder, Tools};
use crate::text::Part;
use crate::{AnswerStream, AnswerToken, Error, FinishReason, Usage};

/// The stream of an answer in which tool calls are parsed.
pub struct PartStream {
    answer: AnswerStream,
    calls: CallFinder,
    ended: bool,
}

/// The next piece of an answer.
pub struct NewParts {
    pub parts: Vec<Part>,
    /// The tokens of the piece.
    pub tokens: Vec<AnswerToken>,
    /// In the last piece: the finish reason and the usage.
    pub end: Option<(FinishReason, Usage)>,
}

impl PartStream {
    /// `answer`, in which calls of `tools` are parsed.
    pub fn new(answer: AnswerStream, tools: &Tools) -> Self {
        Self { answer, calls: tools.finder(), ended: false }
    }

    /// The next piece. None after the end.
    pub async fn next(&mut self) -> Result<Option<NewParts>, Error> {
        if self.ended {
            return Ok(None);
        }
        let Some(piece) = self.answer.try_next().await? else { return Ok(None) };
        let mut parts = self.calls.push(piece.text);
        let mut end = piece.finish_reason.zip(piece.usage);
        if self.calls.is_full() && end.is_none() {
            end = Some((FinishReason::Stop, self.answer.usage()));
            self.answer.close();
        }
        if let Some((reason, _)) = end {
            parts.extend(self.calls.finish(reason));
            self.ended = true;
        }
        Ok(Some(NewParts { parts, tokens: piece.tokens, end }))
    }
}
