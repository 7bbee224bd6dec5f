//! Streams of answers: the engine's tokens become text in the task that reads the answer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Instant;

use futures::{Stream, TryStreamExt};
use mistralrs_core::ext::{StopReason, Token, TokenLogprobs};
use mistralrs_core::Response;
use tokio::sync::mpsc::{
    channel, unbounded_channel, Receiver, Sender, UnboundedReceiver, UnboundedSender,
};

use super::prompt_probe::PromptProbe;
use super::vocabulary::Vocabulary;
use crate::answer::{Answer, AnswerToken, FinishReason, Logprobs, Piece, Usage};
use crate::error::{first_line, Error, Result};
use crate::request::Request;
use crate::text::{AnswerText, TextPiece};

/// An answer in pieces, as the engine computes it. Dropping it stops the engine's work on it.
///
/// The last piece has a [`FinishReason`]. After an error the stream ends.
///
/// ```no_run
/// use colm::{Engine, Message, Request};
/// use futures::TryStreamExt;
///
/// # async fn print(engine: Engine) -> colm::Result<()> {
/// let mut pieces = engine.stream(Request::chat([Message::user("What is 27 + 58?")])).await?;
/// while let Some(piece) = pieces.try_next().await? {
///     print!("{}", piece.text);
/// }
/// # Ok(())
/// # }
/// ```
pub struct AnswerStream {
    tokens: UnboundedReceiver<Token>,
    /// The first token, if [`Self::begun`] has received it and the stream has not yet returned it.
    first_token: Option<Token>,
    failures: Receiver<Response>,
    state: State,
    vocabulary: Arc<Vocabulary>,
    shown_tokens: &'static [&'static str],
    text: AnswerText<(u32, Option<Logprobs>)>,
    /// Whether only the prompt is of interest. The one token that the engine samples is dropped then.
    prompt_only: bool,
    probe: Option<Arc<PromptProbe>>,
    usage: Usage,
    first_sampled: Option<Instant>,
    logprobs: LogprobSum,
}

/// What the stream waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The next token.
    Tokens,
    /// The reason why there are no more tokens, though the answer has not ended.
    Failure,
    /// Nothing.
    Ended,
}

/// The number of tokens that have log-probabilities, and the sum of those, in nats.
#[derive(Default)]
struct LogprobSum {
    tokens: usize,
    sum: f64,
}

impl AnswerStream {
    /// The stream of the answer to `request`, whose prompt has `prompt_tokens` tokens, and the channels to which the
    /// engine sends the answer's tokens and its failure.
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
            first_token: None,
            failures,
            state: State::Tokens,
            vocabulary,
            shown_tokens: request.shown_tokens,
            text: AnswerText::new(request.stop.clone()),
            prompt_only: request.max_tokens == Some(0),
            probe,
            usage: Usage { prompt_tokens, ..Usage::default() },
            first_sampled: None,
            logprobs: LogprobSum::default(),
        };
        (stream, to_tokens, to_failures)
    }

    /// Waits until the prompt has been computed.
    pub async fn first_token_ready(&mut self) {
        if self.first_token.is_none() {
            self.first_token = self.tokens.recv().await;
        }
    }

    /// When the engine sampled the first token; None before it has been read.
    pub fn first_sampled(&self) -> Option<Instant> {
        self.first_sampled
    }

    /// Tokens and times so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The mean log-probability of the tokens so far, if the request asks for them; 0 if there are none.
    pub fn mean_logprob(&self) -> f64 {
        self.logprobs.sum / self.logprobs.tokens.max(1) as f64
    }

    /// The probe of the request. It is filled when the first piece has been read.
    pub(super) fn probe(&self) -> Option<&PromptProbe> {
        self.probe.as_deref()
    }

    /// Log-probabilities of the prompt's tokens except the first, if the request asks for them. Call it when the
    /// first piece has been read.
    pub fn prompt_logprobs(&self) -> Vec<Logprobs> {
        self.probe.as_ref().map(|probe| probe.logprobs()).unwrap_or_default()
    }

    /// Waits for the end and returns the whole answer.
    pub async fn answer(&mut self) -> Result<Answer> {
        let (mut text, mut tokens) = (String::new(), Vec::new());
        while let Some(mut piece) = self.try_next().await? {
            text.push_str(&piece.text);
            tokens.append(&mut piece.tokens);
            if let (Some(finish_reason), Some(usage)) = (piece.finish_reason, piece.usage) {
                return Ok(Answer { text, tokens, finish_reason, usage });
            }
        }
        Err(Error::Failed("the answer has no end".into()))
    }

    fn piece(&mut self, token: Token) -> Result<Piece> {
        let logprobs = token.logprobs.clone().map(Logprobs::from);
        self.count(&token);
        if token.finish == Some(StopReason::Canceled) {
            self.end();
            return Err(Error::Stopped);
        }
        if self.prompt_only {
            self.usage.completion_tokens = 0;
            return Ok(self.last(Piece::default(), FinishReason::Length));
        }
        let mut piece = Piece::default();
        let mut stopped = false;
        let mut end = None;
        if token.ends_text {
            end = Some((token.id, logprobs));
        } else {
            let bytes = self.vocabulary.text_bytes(token.id, self.shown_tokens);
            stopped = piece.add(self.text.push(bytes, (token.id, logprobs)));
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
            self.logprobs.tokens += 1;
            self.logprobs.sum += logprobs.logprob;
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

    /// Closes the channel, so that the engine ends the sequence.
    fn end(&mut self) {
        self.state = State::Ended;
        self.tokens.close();
    }
}

impl Stream for AnswerStream {
    type Item = Result<Piece>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.state {
                State::Tokens => {
                    let token = match self.first_token.take() {
                        Some(token) => Some(token),
                        None => ready!(self.tokens.poll_recv(context)),
                    };
                    let Some(token) = token else {
                        self.state = State::Failure;
                        continue;
                    };
                    let piece = self.piece(token)?;
                    let is_empty = piece.text.is_empty() && piece.tokens.is_empty();
                    if !is_empty || piece.finish_reason.is_some() {
                        return Poll::Ready(Some(Ok(piece)));
                    }
                }
                State::Failure => {
                    let error = failure(ready!(self.failures.poll_recv(context)));
                    self.state = State::Ended;
                    return Poll::Ready(Some(Err(error)));
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

/// Why there are no more tokens.
fn failure(response: Option<Response>) -> Error {
    match response {
        Some(Response::ValidationError(error)) => Error::Refused(first_line(&error.to_string())),
        Some(Response::InternalError(error)) => Error::failed(error),
        Some(Response::CompletionModelError(error, _)) => Error::failed(error),
        Some(_) => Error::Failed("it answered in another form than was requested".into()),
        None => Error::Failed("it ended without an answer".into()),
    }
}

impl fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerStream")
            .field("usage", &self.usage)
            .field("ended", &(self.state == State::Ended))
            .finish_non_exhaustive()
    }
}

impl From<TokenLogprobs> for Logprobs {
    fn from(TokenLogprobs { logprob, top }: TokenLogprobs) -> Self {
        Self { logprob, top }
    }
}

impl Piece {
    /// Adds text that is certain to be part of the answer. Returns whether a stop string follows.
    fn add(&mut self, piece: TextPiece<(u32, Option<Logprobs>)>) -> bool {
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
