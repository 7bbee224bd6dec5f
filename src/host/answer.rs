//! Answers: the engine's tokens become text, each answer in the task that waits for it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mistralrs_core::ext::{StopReason, Token, TokenLogprobs};
use mistralrs_core::Response;
use tokio::sync::mpsc::{
    channel, unbounded_channel, Receiver, Sender, UnboundedReceiver, UnboundedSender,
};

use super::prompt_probe::PromptProbe;
use super::request::{first_line, Request, RequestError};
use super::vocabulary::Vocabulary;
use crate::text::{AnswerText, TextPiece};

/// Why an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model has ended it, or a stop string has come.
    Stop,
    /// It has as many tokens as were asked for, or as the context holds.
    Length,
}

impl FinishReason {
    /// As OpenAI writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

impl fmt::Display for FinishReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of them were found in the prefix cache.
    pub cached_tokens: usize,
    /// Tokens of the answer, the one that ends it included.
    pub completion_tokens: usize,
    /// From the step that computed the prompt to the first token.
    pub prompt_time: Duration,
    /// From the first token to the last.
    pub decode_time: Duration,
}

/// A token of an answer or a prompt.
#[derive(Clone, Debug)]
pub struct AnswerToken {
    /// Its id.
    pub id: u32,
    /// Where in the text it begins, in characters.
    pub offset: usize,
    /// If asked for.
    pub logprobs: Option<TokenLogprobs>,
    /// Whether it only ends the answer and is no part of its text.
    pub ends_text: bool,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The new text.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<AnswerToken>,
    /// Why it ends.
    pub finish_reason: FinishReason,
    /// What it took.
    pub usage: Usage,
}

/// A piece of a streamed answer.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    /// The text since the last piece.
    pub text: String,
    /// The tokens that begin in it.
    pub tokens: Vec<AnswerToken>,
    /// With the last piece: why the answer ends.
    pub finish_reason: Option<FinishReason>,
    /// With the last piece: what the answer took.
    pub usage: Option<Usage>,
}

/// An answer as it comes. The engine stops when this is dropped.
pub struct AnswerStream {
    tokens: UnboundedReceiver<Token>,
    /// The first token, where somebody has waited for it.
    begun: Option<Token>,
    failures: Receiver<Response>,
    vocabulary: Arc<Vocabulary>,
    shown_tokens: &'static [&'static str],
    text: AnswerText<(u32, Option<TokenLogprobs>)>,
    /// Only the prompt is of interest: the engine's one token is dropped.
    prompt_only: bool,
    probe: Option<Arc<PromptProbe>>,
    usage: Usage,
    first_sampled: Option<Instant>,
    /// Of the tokens that have log-probabilities: how many, and the sum.
    logprobs: (usize, f64),
    ended: bool,
}

impl AnswerStream {
    /// The answer to `request`, whose prompt has so many tokens. The engine sends it to what comes with it.
    pub(super) fn of(
        request: &Request,
        prompt_tokens: usize,
        vocabulary: Arc<Vocabulary>,
        probe: Option<Arc<PromptProbe>>,
    ) -> (Self, UnboundedSender<Token>, Sender<Response>) {
        let (to_tokens, tokens) = unbounded_channel();
        let (to_failures, failures) = channel(1);
        let stream = Self {
            tokens,
            begun: None,
            failures,
            vocabulary,
            shown_tokens: request.shown_tokens,
            text: AnswerText::new(request.stop.clone()),
            prompt_only: request.sampling.max_len == Some(0),
            probe,
            usage: Usage { prompt_tokens, ..Usage::default() },
            first_sampled: None,
            logprobs: (0, 0.),
            ended: false,
        };
        (stream, to_tokens, to_failures)
    }

    /// Waits until the prompt has been computed.
    pub async fn begun(&mut self) {
        if self.begun.is_none() {
            self.begun = self.tokens.recv().await;
        }
    }

    /// The next piece; None after the last.
    pub async fn next(&mut self) -> Result<Option<Piece>, RequestError> {
        while !self.ended {
            let token = match self.begun.take() {
                Some(token) => Some(token),
                None => self.tokens.recv().await,
            };
            let Some(token) = token else {
                self.ended = true;
                return Err(self.failure().await);
            };
            let piece = self.piece(token)?;
            if piece.finish_reason.is_some() || !piece.text.is_empty() || !piece.tokens.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// When the engine has sampled the first token, if it has come.
    pub fn first_sampled(&self) -> Option<Instant> {
        self.first_sampled
    }

    /// What the answer has taken so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The mean log-probability of the tokens that have come, if they were asked for; 0 if there are none.
    pub fn mean_logprob(&self) -> f64 {
        let (tokens, sum) = self.logprobs;
        sum / tokens.max(1) as f64
    }

    /// What was found out about the prompt, once the first piece has come.
    pub(super) fn probe(&self) -> Option<&PromptProbe> {
        self.probe.as_deref()
    }

    /// Log-probabilities of the prompt's tokens but the first, if they were asked for, once the first
    /// piece has come.
    pub fn prompt_logprobs(&self) -> Vec<TokenLogprobs> {
        self.probe.as_ref().map(|probe| probe.logprobs()).unwrap_or_default()
    }

    /// The whole answer.
    pub async fn whole(&mut self) -> Result<Answer, RequestError> {
        let (mut text, mut tokens) = (String::new(), Vec::new());
        while let Some(mut piece) = self.next().await? {
            text.push_str(&piece.text);
            tokens.append(&mut piece.tokens);
            if let (Some(finish_reason), Some(usage)) = (piece.finish_reason, piece.usage) {
                return Ok(Answer { text, tokens, finish_reason, usage });
            }
        }
        Err(RequestError::Failed("the answer has no end".into()))
    }

    fn piece(&mut self, token: Token) -> Result<Piece, RequestError> {
        self.count(&token);
        if token.finish == Some(StopReason::Canceled) {
            self.end();
            return Err(RequestError::Stopped);
        }
        if self.prompt_only {
            self.usage.completion_tokens = 0;
            return Ok(self.last(Piece::default(), FinishReason::Length));
        }
        let mut piece = Piece::default();
        let mut stopped = false;
        let mut end = None;
        if token.ends_text {
            end = Some((token.id, token.logprobs));
        } else {
            let bytes = self.vocabulary.text_bytes(token.id, self.shown_tokens);
            stopped = piece.add(self.text.push(bytes, (token.id, token.logprobs)));
        }
        let Some(reason) = token.finish.or(stopped.then_some(StopReason::Eos)) else {
            return Ok(piece);
        };
        if !stopped {
            stopped = piece.add(self.text.finish());
        }
        if let Some((id, logprobs)) = end.filter(|_| !stopped) {
            let offset = self.text.characters();
            piece.tokens.push(AnswerToken { id, offset, logprobs, ends_text: true });
        }
        let reason = match reason {
            StopReason::Length(_) | StopReason::ModelLength(_) if !stopped => FinishReason::Length,
            _ => FinishReason::Stop,
        };
        Ok(self.last(piece, reason))
    }

    fn count(&mut self, token: &Token) {
        self.usage.completion_tokens += 1;
        if let Some(logprobs) = &token.logprobs {
            self.logprobs.0 += 1;
            self.logprobs.1 += logprobs.logprob;
        }
        self.usage.cached_tokens = self.usage.cached_tokens.max(token.cached);
        let first = *self.first_sampled.get_or_insert(token.sampled);
        self.usage.decode_time = token.sampled - first;
        if let Some(started) = token.prompt_started {
            self.usage.prompt_time = first - started;
        }
    }

    fn last(&mut self, piece: Piece, reason: FinishReason) -> Piece {
        self.end();
        Piece { finish_reason: Some(reason), usage: Some(self.usage), ..piece }
    }

    /// Tells the engine that nobody waits any more.
    fn end(&mut self) {
        self.ended = true;
        self.tokens.close();
    }

    /// Why there are no more tokens.
    async fn failure(&mut self) -> RequestError {
        match self.failures.recv().await {
            Some(Response::ValidationError(error)) => {
                RequestError::Refused(first_line(&error.to_string()))
            }
            Some(Response::InternalError(error)) => RequestError::failed(error),
            Some(Response::CompletionModelError(error, _)) => RequestError::failed(error),
            Some(_) => RequestError::Failed("it answers in another way than asked for".into()),
            None => RequestError::Failed("it has ended without an answer".into()),
        }
    }
}

impl Piece {
    /// Adds what is certain of the text; whether a stop string follows.
    fn add(&mut self, piece: TextPiece<(u32, Option<TokenLogprobs>)>) -> bool {
        self.text.push_str(&piece.text);
        let tokens = piece.tokens.into_iter();
        self.tokens.extend(tokens.map(|(offset, (id, logprobs))| AnswerToken {
            id,
            offset,
            logprobs,
            ends_text: false,
        }));
        piece.stopped
    }
}
