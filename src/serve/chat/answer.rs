//! Answers to a chat, complete or streamed. A complete answer is made from the pieces of the stream.

use futures::{stream, Stream, StreamExt};
use serde::Serialize;
use utoipa::ToSchema;

use super::parts::PartStream;
use crate::host::vocabulary::Vocabulary;
use crate::serve::logprobs::{ChatLogprobs, TokenLogprob};
use crate::serve::tools::{FunctionCall, Tools};
use crate::serve::usage::UsageBody;
use crate::text::Part;
use crate::{AnswerStream, AnswerToken, Error, FinishReason, Usage};

/// A complete answer: `chat.completion`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatCompletion {
    pub id: String,
    pub object: &'static str,
    /// In seconds since 1970.
    pub created: u64,
    /// NAME@k, where k is the number of chains that answered.
    pub model: String,
    pub system_fingerprint: &'static str,
    pub choices: Vec<Choice>,
    pub usage: UsageBody,
}

/// One of the answers to a request.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Choice {
    pub index: usize,
    pub message: Message,
    pub logprobs: Option<ChatLogprobs>,
    /// `stop`, `length` or `tool_calls`.
    pub finish_reason: &'static str,
}

/// The message of the model.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Message {
    pub role: &'static str,
    pub content: Option<String>,
    pub refusal: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<FunctionCall>,
}

/// A piece of a streamed answer: `chat.completion.chunk`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatCompletionChunk {
    pub id: String,
    pub object: &'static str,
    /// In seconds since 1970.
    pub created: u64,
    /// NAME@k, where k is the number of chains that answer.
    pub model: String,
    pub system_fingerprint: &'static str,
    pub choices: Vec<ChunkChoice>,
    /// In the last chunk, with `include_usage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageBody>,
}

/// A piece of one of the answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChunkChoice {
    pub index: usize,
    pub delta: Delta,
    pub logprobs: Option<ChatLogprobs>,
    /// In the last piece of the answer: `stop`, `length` or `tool_calls`.
    pub finish_reason: Option<&'static str>,
    #[serde(skip)]
    pub usage: Option<Usage>,
}

/// New text or calls.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<FunctionCall>,
}

/// The stream of one of the answers to a chat.
pub struct ChoiceStream {
    index: usize,
    parts: PartStream,
    /// The number of tool calls so far.
    calls: usize,
    /// Whether a named function is forced.
    named: bool,
    with_logprobs: bool,
    /// The end of the answer, if its last piece had calls.
    end: Option<ChunkChoice>,
}

impl ChoiceStream {
    /// The answer at `index`, in which calls of `tools` are parsed.
    pub fn new(index: usize, answer: AnswerStream, tools: &Tools, with_logprobs: bool) -> Self {
        let (parts, named) = (PartStream::new(answer, tools), tools.is_named());
        Self { index, parts, calls: 0, named, with_logprobs, end: None }
    }

    /// The next piece. None after the end. Calls and the end are two pieces, as in OpenAI's API: its clients report a call
    /// as complete when a later piece comes.
    async fn next(&mut self, vocabulary: &Vocabulary) -> Result<Option<ChunkChoice>, Error> {
        if let Some(end) = self.end.take() {
            return Ok(Some(end));
        }
        while let Some(new) = self.parts.next().await? {
            let delta = self.delta(new.parts);
            let logprobs = self.logprobs(&new.tokens, vocabulary);
            let has_content = delta.content.is_some() || !delta.tool_calls.is_empty();
            if has_content || new.end.is_some() || logprobs.is_some() {
                let (reason, usage) = new.end.unzip();
                let finish_reason = reason.map(|reason| self.finish_reason(reason));
                let index = self.index;
                let mut piece = ChunkChoice { index, delta, logprobs, finish_reason, usage };
                if !piece.delta.tool_calls.is_empty() && piece.finish_reason.is_some() {
                    let (finish_reason, usage) = (piece.finish_reason.take(), piece.usage.take());
                    let (delta, logprobs) = (Delta::default(), None);
                    self.end = Some(ChunkChoice { index, delta, logprobs, finish_reason, usage });
                }
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    fn delta(&mut self, parts: Vec<Part>) -> Delta {
        let mut delta = Delta::default();
        for part in parts {
            match part {
                Part::Text(text) if text.is_empty() => {}
                Part::Text(text) => delta.content.get_or_insert_default().push_str(&text),
                Part::Call(call) => {
                    let call = FunctionCall { index: Some(self.calls), ..FunctionCall::new(call) };
                    self.calls += 1;
                    delta.tool_calls.push(call);
                }
            }
        }
        delta
    }

    fn logprobs(&self, tokens: &[AnswerToken], vocabulary: &Vocabulary) -> Option<ChatLogprobs> {
        let tokens = tokens.iter().filter_map(|token| TokenLogprob::from_token(token, vocabulary));
        let content: Vec<TokenLogprob> = tokens.collect();
        (self.with_logprobs && !content.is_empty()).then_some(ChatLogprobs::new(content))
    }

    fn finish_reason(&self, reason: FinishReason) -> &'static str {
        match reason {
            FinishReason::Stop if self.calls > 0 && !self.named => "tool_calls",
            reason => reason.as_str(),
        }
    }

    /// Waits for the complete answer.
    pub async fn complete(mut self, vocabulary: &Vocabulary) -> Result<(Choice, Usage), Error> {
        let mut choice = Choice { index: self.index, ..Choice::default() };
        choice.message.role = "assistant";
        let mut usage = Usage::default();
        let mut content = String::new();
        let mut logprobs = ChatLogprobs::new(Vec::new());
        while let Some(mut piece) = self.next(vocabulary).await? {
            content += piece.delta.content.as_deref().unwrap_or_default();
            choice.message.tool_calls.append(&mut piece.delta.tool_calls);
            piece.logprobs.into_iter().for_each(|more| logprobs.extend(more));
            choice.finish_reason = piece.finish_reason.unwrap_or(choice.finish_reason);
            usage = piece.usage.unwrap_or(usage);
        }
        choice.message.tool_calls.iter_mut().for_each(|call| call.index = None);
        let only_calls = content.is_empty() && !choice.message.tool_calls.is_empty();
        choice.message.content = (!only_calls).then_some(content);
        choice.logprobs = self.with_logprobs.then_some(logprobs);
        Ok((choice, usage))
    }

    /// The pieces of the answer. The first one contains only the role.
    pub fn pieces(
        self,
        vocabulary: std::sync::Arc<Vocabulary>,
    ) -> impl Stream<Item = Result<ChunkChoice, Error>> + Send {
        let first = ChunkChoice {
            index: self.index,
            delta: Delta {
                role: Some("assistant"),
                content: Some(String::new()),
                ..Delta::default()
            },
            logprobs: None,
            finish_reason: None,
            usage: None,
        };
        let pieces = stream::unfold((self, vocabulary), |(mut choice, vocabulary)| async move {
            let piece = choice.next(&vocabulary).await.transpose()?;
            Some((piece, (choice, vocabulary)))
        });
        stream::iter([Ok(first)]).chain(pieces)
    }
}
