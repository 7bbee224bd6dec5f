//! Streams of answers: the engine's tokens become text in the task that reads the answer.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{ready, Context, Poll};
use std::time::Instant;

use futures::{Stream, TryStreamExt};
use mistralrs_core::ext::{StopReason, Token, TokenLogprobs};
use mistralrs_core::Response;
use tokio::sync::mpsc::{
    channel, unbounded_channel, Receiver, Sender, UnboundedReceiver, UnboundedSender,
};

use super::prompt_probe::PromptProbe;
use super::request_options::RequestOptions;
use super::vocabulary::Vocabulary;
use crate::answer::{Answer, AnswerToken, FinishReason, Logprobs, Piece, Usage};
use crate::error::{first_line, Error, Result};
use crate::grammar::GrammarError;
use crate::model::speculation::DraftCounters;
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
    /// The first token, if [`Self::first_token_ready`] has received it and the stream has not yet returned it.
    first_token: Option<Token>,
    failures: Receiver<Response>,
    state: State,
    vocabulary: Arc<Vocabulary>,
    shown_tokens: &'static [&'static str],
    text: AnswerText<(u32, Option<Logprobs>)>,
    /// Whether only the prompt is of interest. The one token that the engine samples is dropped then.
    prompt_only: bool,
    probe: Option<Arc<PromptProbe>>,
    drafts: Arc<DraftCounters>,
    cached_tokens: Arc<OnceLock<usize>>,
    usage: Usage,
    first_sampled: Option<Instant>,
    times: Option<Vec<Instant>>,
    logprobs: LogprobSum,
    observer: Option<Arc<dyn AnswerObserver>>,
}

/// Is told what happens to an answer.
pub trait AnswerObserver: Send + Sync {
    /// The first token was sampled.
    fn first_token(&self, usage: &Usage);
    /// A token was sampled. Of an answer that ended early, the engine may have sampled some that are not part of it.
    fn token(&self);
    /// The answer has ended.
    fn ended(&self, end: AnswerEnd, usage: &Usage);
}

/// How an answer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerEnd {
    /// As it should.
    Finished(FinishReason),
    /// With an error.
    Failed,
    /// Its stream was dropped before.
    Abandoned,
}

/// What an answer belongs to.
pub struct AnswerOf<'a> {
    /// The request.
    pub request: &'a Request,
    /// The length of its prompt.
    pub prompt_tokens: usize,
    /// What the model is told of it.
    pub options: &'a RequestOptions,
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
    /// The stream of an answer, and the channels to which the engine sends the answer's tokens and its failure.
    pub(super) fn of(
        AnswerOf { request, prompt_tokens, options }: AnswerOf<'_>,
        vocabulary: Arc<Vocabulary>,
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
            probe: options.probe.clone(),
            drafts: options.drafts.clone(),
            cached_tokens: options.cached_tokens.clone(),
            usage: Usage { prompt_tokens, chains: options.k.get(), ..Usage::default() },
            first_sampled: None,
            times: None,
            logprobs: LogprobSum::default(),
            observer: None,
        };
        (stream, to_tokens, to_failures)
    }

    /// Tells `observer` what happens to the answer from now on.
    pub(crate) fn observe(&mut self, observer: Arc<dyn AnswerObserver>) {
        self.observer = Some(observer);
    }

    /// Waits until the prompt has been computed.
    pub async fn first_token_ready(&mut self) {
        if self.first_token.is_none() {
            self.first_token = self.tokens.recv().await;
        }
    }

    /// Keeps the times of all tokens that are read from now on, for [`Self::times`].
    pub fn keep_times(&mut self) {
        self.times.get_or_insert_default();
    }

    /// When the engine sampled each token, also those without text. Empty without [`Self::keep_times`].
    pub fn times(&self) -> &[Instant] {
        self.times.as_deref().unwrap_or_default()
    }

    /// Tokens and times so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The mean log-probability of the tokens so far, if the request asks for them; 0 if there are none.
    pub fn mean_logprob(&self) -> f64 {
        self.logprobs.sum / self.logprobs.tokens.max(1) as f64
    }

    /// Takes the probe of `first`, an answer to the same request.
    pub(super) fn share_probe(&mut self, first: &Self) {
        self.probe.clone_from(&first.probe);
    }

    /// The probe of the request. It is filled when the first piece has been read.
    pub(super) fn probe(&self) -> Option<&PromptProbe> {
        self.probe.as_deref()
    }

    /// Log-probabilities of the prompt's tokens except the first, if the request asks for them. Call it when the
    /// first piece has been read.
    ///
    /// # Errors
    /// If the model's logits are not finite numbers.
    pub fn prompt_logprobs(&self) -> Result<Vec<Logprobs>> {
        self.probe.as_ref().map_or_else(|| Ok(Vec::new()), |probe| probe.logprobs())
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
            self.end(AnswerEnd::Failed);
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
        let first = *self.first_sampled.get_or_insert(token.sampled);
        self.usage.decode_time = token.sampled - first;
        self.times.iter_mut().for_each(|times| times.push(token.sampled));
        self.usage.drafted_tokens = self.drafts.drafted();
        self.usage.accepted_tokens = self.drafts.accepted();
        if let Some(started) = token.prompt_started {
            self.usage.prompt_time = first - started;
        }
        if let Some(observer) = self.observer.as_ref().filter(|_| !self.prompt_only) {
            observer.token();
        }
        if self.usage.completion_tokens == 1 {
            self.usage.cached_tokens = self.cached_tokens.get().copied().unwrap_or(0);
            if let Some(observer) = &self.observer {
                observer.first_token(&self.usage);
            }
        }
    }

    fn last(&mut self, piece: Piece, reason: FinishReason) -> Piece {
        self.end(AnswerEnd::Finished(reason));
        Piece { finish_reason: Some(reason), usage: Some(self.usage), ..piece }
    }

    /// Ends the answer here: its reader has all that it wants.
    pub(crate) fn close(&mut self) {
        self.end(AnswerEnd::Finished(FinishReason::Stop));
    }

    /// Closes the channel, so that the engine ends the sequence.
    fn end(&mut self, end: AnswerEnd) {
        self.state = State::Ended;
        self.tokens.close();
        if let Some(observer) = self.observer.take() {
            if !self.prompt_only {
                let first = self.first_token.take();
                let others = std::iter::from_fn(|| self.tokens.try_recv().ok());
                first.into_iter().chain(others).for_each(|_| observer.token());
            }
            observer.ended(end, &self.usage);
        }
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
                    self.end(AnswerEnd::Failed);
                    return Poll::Ready(Some(Err(error)));
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        if self.state != State::Ended {
            self.end(AnswerEnd::Abandoned);
        }
    }
}

/// How the host's message begins if a grammar fails at a token.
const GRAMMAR_ERROR: &str = "Invalid grammar. ";

/// llguidance's message if the host has stopped it at the time limit for a token.
const CANCELLED: &str = "operation cancelled";
const TOO_SLOW: &str = "computing a token takes too long: expected a simpler grammar";

/// Why there are no more tokens.
fn failure(response: Option<Response>) -> Error {
    match response {
        Some(Response::ValidationError(error)) => {
            let message = first_line(&error.to_string());
            match message.strip_prefix(GRAMMAR_ERROR) {
                Some(CANCELLED) => Error::Grammar(GrammarError::Invalid(TOO_SLOW.into())),
                Some(message) => Error::Grammar(GrammarError::Invalid(message.into())),
                None => Error::Refused(message),
            }
        }
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
