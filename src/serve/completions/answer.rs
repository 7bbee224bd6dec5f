//! Answers to a prompt, whole or streamed: both are the same pieces.

use std::sync::Arc;

use futures::{stream, Stream, TryStreamExt};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::usage::UsageBody;
use super::logprobs::CompletionLogprobs;
use crate::host::vocabulary::Vocabulary;
use crate::text::AnswerText;
use crate::{AnswerStream, Error, Usage};

/// A whole answer, or a piece of one: `text_completion`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Completion {
    pub id: String,
    pub object: &'static str,
    /// In seconds since 1970.
    pub created: u64,
    /// NAME@k: the chains that have answered.
    pub model: String,
    pub system_fingerprint: &'static str,
    pub choices: Vec<CompletionChoice>,
    /// Of a stream in its last chunk, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageBody>,
}

/// One of the answers, or what is new in it.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct CompletionChoice {
    pub text: String,
    /// The answers to each prompt stand together, prompt by prompt.
    pub index: usize,
    pub logprobs: Option<CompletionLogprobs>,
    /// At the end: stop or length.
    pub finish_reason: Option<&'static str>,
    #[serde(skip)]
    pub usage: Option<Usage>,
}

/// A prompt as an answer shows it.
pub struct Echo {
    text: String,
    /// The tokens, and where in the text each begins.
    tokens: Vec<(usize, u32)>,
}

impl Echo {
    /// The prompt `tokens`; its text, if it was given as text.
    pub fn of(tokens: &[u32], text: Option<String>, vocabulary: &Vocabulary) -> Self {
        let without_names = Self::decoded(tokens, |token| vocabulary.text_bytes(token, &[]));
        let Some(text) = text else { return without_names };
        // A text may have the names of special tokens.
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

/// One of the answers to a prompt, as it comes.
pub struct ChoiceStream {
    index: usize,
    answer: AnswerStream,
    /// What the next piece begins with.
    echo: Option<Arc<Echo>>,
    /// Where the answer begins in the text.
    begins: usize,
    with_logprobs: bool,
}

impl ChoiceStream {
    /// The answer at `index`, after its prompt if there is an `echo`.
    pub fn new(
        index: usize,
        answer: AnswerStream,
        echo: Option<Arc<Echo>>,
        with_logprobs: bool,
    ) -> Self {
        let begins = echo.as_ref().map_or(0, |echo| echo.text.chars().count());
        Self { index, answer, echo, begins, with_logprobs }
    }

    /// What is new; None after the end.
    async fn next(&mut self, vocabulary: &Vocabulary) -> Result<Option<CompletionChoice>, Error> {
        let Some(piece) = self.answer.try_next().await? else { return Ok(None) };
        let mut choice = match self.echo.take() {
            Some(echo) => self.prompt(&echo, vocabulary),
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

    fn prompt(&self, echo: &Echo, vocabulary: &Vocabulary) -> CompletionChoice {
        let mut choice = CompletionChoice { text: echo.text.clone(), ..Default::default() };
        if self.with_logprobs {
            let found = self.answer.prompt_logprobs();
            let logprobs = choice.logprobs.get_or_insert_default();
            // Nothing predicts the first token.
            let found = std::iter::once(None).chain(found.iter().map(Some));
            for (&(offset, token), found) in echo.tokens.iter().zip(found) {
                logprobs.push(token, offset, found, vocabulary);
            }
        }
        choice
    }

    /// The whole answer, and the mean log-probability of its tokens, if it has any.
    pub async fn whole(
        mut self,
        vocabulary: &Vocabulary,
    ) -> Result<(CompletionChoice, f64), Error> {
        let mut whole = CompletionChoice { index: self.index, ..Default::default() };
        while let Some(piece) = self.next(vocabulary).await? {
            whole.text += &piece.text;
            whole.finish_reason = piece.finish_reason.or(whole.finish_reason);
            whole.usage = piece.usage.or(whole.usage);
            if let Some(more) = piece.logprobs {
                whole.logprobs.get_or_insert_default().extend(more);
            }
        }
        Ok((whole, self.answer.mean_logprob()))
    }

    /// The answer piece by piece.
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
