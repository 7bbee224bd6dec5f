//! Answers to a prompt, complete or streamed. A complete answer is made from the pieces of the stream.

use std::sync::Arc;

use futures::{stream, Stream, TryStreamExt};
use serde::Serialize;
use utoipa::ToSchema;

use super::logprobs::CompletionLogprobs;
use crate::host::vocabulary::Vocabulary;
use crate::serve::usage::UsageBody;
use crate::text::AnswerText;
use crate::{AnswerStream, Error, Usage};

/// A complete answer, or a piece of a streamed one: `text_completion`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Completion {
    pub id: String,
    pub object: &'static str,
    /// In seconds since 1970.
    pub created: u64,
    /// NAME@k, where k is the number of chains that answered.
    pub model: String,
    pub system_fingerprint: &'static str,
    pub choices: Vec<CompletionChoice>,
    /// In a stream only in the last chunk, with `include_usage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageBody>,
}

/// One of the answers, or a piece of it.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct CompletionChoice {
    pub text: String,
    /// The position of the answer. Answers are ordered by prompt.
    pub index: usize,
    pub logprobs: Option<CompletionLogprobs>,
    /// In the last piece: `stop` or `length`.
    pub finish_reason: Option<&'static str>,
    #[serde(skip)]
    pub usage: Option<Usage>,
}

/// A prompt that is repeated before its answer.
pub struct Echo {
    text: String,
    /// Each token, with the offset in the text at which it begins, in characters.
    tokens: Vec<(usize, u32)>,
}

impl Echo {
    /// The prompt with these tokens, and its text if it was given as text.
    pub fn new(tokens: &[u32], text: Option<String>, vocabulary: &Vocabulary) -> Self {
        let without_names = Self::decoded(tokens, |token| vocabulary.text_bytes(token, &[]));
        let Some(text) = text else { return without_names };
        // A text may contain the names of special tokens.
        let with_names = Self::decoded(tokens, |token| vocabulary.bytes(token));
        let decoded = if with_names.text == text { with_names } else { without_names };
        Self { text, ..decoded }
    }

    fn decoded<'a>(tokens: &[u32], bytes: impl Fn(u32) -> &'a [u8]) -> Self {
        let mut decoded = AnswerText::new(Vec::new());
        let (mut text, mut begins) = (String::new(), Vec::new());
        for &token in tokens {
            let piece = decoded.push(bytes(token), token);
            text += &piece.text;
            begins.extend(piece.tokens);
        }
        let last = decoded.finish();
        text += &last.text;
        begins.extend(last.tokens);
        Self { text, tokens: begins }
    }
}

/// The stream of one of the answers to a prompt.
pub struct ChoiceStream {
    index: usize,
    answer: AnswerStream,
    /// The prompt to repeat before the first piece.
    echo: Option<Arc<Echo>>,
    /// The offset in the text at which the answer begins, in characters.
    begins: usize,
    with_logprobs: bool,
}

impl ChoiceStream {
    /// The answer at `index`, after the prompt `echo` if there is one.
    pub fn new(
        index: usize,
        answer: AnswerStream,
        echo: Option<Arc<Echo>>,
        with_logprobs: bool,
    ) -> Self {
        let begins = echo.as_ref().map_or(0, |echo| echo.text.chars().count());
        Self { index, answer, echo, begins, with_logprobs }
    }

    /// The next piece. None after the end.
    async fn next(&mut self, vocabulary: &Vocabulary) -> Result<Option<CompletionChoice>, Error> {
        let Some(piece) = self.answer.try_next().await? else { return Ok(None) };
        let mut choice = match self.echo.take() {
            Some(echo) => self.prompt(&echo, vocabulary)?,
            None => CompletionChoice::default(),
        };
        choice.index = self.index;
        choice.text += &piece.text;
        choice.finish_reason = piece.finish_reason.map(|reason| reason.as_str());
        choice.usage = piece.usage;
        if self.with_logprobs {
            let logprobs = choice.logprobs.get_or_insert_default();
            for token in &piece.tokens {
                let offset = self.begins + token.offset;
                logprobs.push(token.id, offset, token.logprobs.as_ref(), vocabulary);
            }
        }
        Ok(Some(choice))
    }

    fn prompt(&self, echo: &Echo, vocabulary: &Vocabulary) -> Result<CompletionChoice, Error> {
        let mut choice = CompletionChoice { text: echo.text.clone(), ..Default::default() };
        if self.with_logprobs {
            let found = self.answer.prompt_logprobs()?;
            let logprobs = choice.logprobs.get_or_insert_default();
            // The first token is not predicted.
            let found = std::iter::once(None).chain(found.iter().map(Some));
            for (&(offset, token), found) in echo.tokens.iter().zip(found) {
                logprobs.push(token, offset, found, vocabulary);
            }
        }
        Ok(choice)
    }

    /// Waits for the complete answer. Also returns the mean log-probability of its tokens.
    pub async fn complete(
        mut self,
        vocabulary: &Vocabulary,
    ) -> Result<(CompletionChoice, f64), Error> {
        let mut choice = CompletionChoice { index: self.index, ..Default::default() };
        while let Some(piece) = self.next(vocabulary).await? {
            choice.text += &piece.text;
            choice.finish_reason = piece.finish_reason.or(choice.finish_reason);
            choice.usage = piece.usage.or(choice.usage);
            if let Some(more) = piece.logprobs {
                choice.logprobs.get_or_insert_default().extend(more);
            }
        }
        Ok((choice, self.answer.mean_logprob()))
    }

    /// The pieces of the answer.
    pub fn pieces(
        self,
        vocabulary: Arc<Vocabulary>,
    ) -> impl Stream<Item = Result<CompletionChoice, Error>> + Send {
        stream::unfold((self, vocabulary), |(mut choice, vocabulary)| async move {
            let piece = choice.next(&vocabulary).await.transpose()?;
            Some((piece, (choice, vocabulary)))
        })
    }
}
