//! Answers: the engine's tokens become text, each answer in the task that waits for it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mistralrs_core::ext::{StopReason, Token, TokenLogprobs, TokenRequest};
use mistralrs_core::llguidance::Matcher;
use mistralrs_core::{Request as EngineRequest, Response, StopTokens};
use tokio::sync::mpsc::{channel, unbounded_channel, Receiver, UnboundedReceiver};

use super::chain_choice::{model_id_at, parse_chains};
use super::engine::Engine;
use super::prompt_probe::PromptProbe;
use super::request::{first_line, Prompt, Request, RequestError};
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

/// A request with its prompt in tokens and its grammar compiled: ready for the engine, any number of
/// times.
pub struct Prepared {
    /// Its prompt is in `prompt`, its grammar in `grammar`.
    request: Request,
    prompt: Vec<u32>,
    grammar: Option<Matcher>,
    k: usize,
}

impl Prepared {
    /// The prompt.
    pub fn prompt(&self) -> &[u32] {
        &self.prompt
    }
}

impl Engine {
    /// The whole answer to `request`.
    pub async fn answer(&self, request: Request) -> Result<Answer, RequestError> {
        self.stream(request).await?.whole().await
    }

    /// The answer to `request`, piece by piece.
    pub async fn stream(&self, request: Request) -> Result<AnswerStream, RequestError> {
        let prepared = self.prepare(request).await?;
        self.start_answer(&prepared, prepared.request.seed).await
    }

    /// Makes all of `request` that the engine need not make.
    ///
    /// Whatever is wrong with a request is found here.
    pub async fn prepare(&self, mut request: Request) -> Result<Prepared, RequestError> {
        let k = match request.chains {
            Some(k) => parse_chains(&k.to_string(), self.chains())?,
            None => self.chains(),
        };
        let prompt = std::mem::replace(&mut request.prompt, Prompt::Tokens(Vec::new()));
        let prompt = self.prompts().tokens(prompt).await?;
        let grammar = match &request.grammar {
            Some(grammar) => Some(self.grammars().compile(grammar).await?),
            None => None,
        };
        Ok(Prepared { request, prompt, grammar, k })
    }

    /// Has the engine answer, with random numbers from `seed`, or the system's randomness.
    pub async fn start_answer(
        &self,
        prepared: &Prepared,
        seed: Option<u64>,
    ) -> Result<AnswerStream, RequestError> {
        let probe = prepared.request.prompt_logprobs.map(PromptProbe::logprobs_with);
        self.start_answer_with(prepared, seed, probe).await
    }

    pub(super) async fn start_answer_with(
        &self,
        prepared: &Prepared,
        seed: Option<u64>,
        probe: Option<PromptProbe>,
    ) -> Result<AnswerStream, RequestError> {
        let Prepared { request, prompt, grammar, k } = prepared;
        let vocabulary = self.vocabulary().clone();
        let mut sampling = request.sampling.clone();
        sampling.stop_toks = stop_ids(sampling.stop_toks, &request.stop, &vocabulary);
        let prompt_only = sampling.max_len == Some(0);
        let probe = probe.map(|probe| Arc::new(probe.of(prompt.len())));
        let (tokens, receiver) = unbounded_channel();
        let (response, failures) = channel(1);
        let engine_request = TokenRequest {
            prompt: prompt.clone(),
            sampling_params: sampling,
            seed: seed.unwrap_or_else(rand::random),
            grammar: grammar.clone(),
            logits_processors: request.logits_processors.clone(),
            logprobs: request.logprobs,
            prefix_cache: probe.is_none(),
            model_id: Some(model_id_at(self.name(), *k)),
            extension: probe.clone().map(|probe| probe as _),
            tokens,
            response,
        };
        let sender = self.host().get_sender(None).map_err(RequestError::failed)?;
        let sent = sender.send(EngineRequest::Tokens(Box::new(engine_request))).await;
        sent.map_err(|_| RequestError::Failed("it takes no requests".into()))?;
        Ok(AnswerStream {
            tokens: receiver,
            begun: None,
            failures,
            vocabulary,
            shown_tokens: request.shown_tokens,
            text: AnswerText::new(request.stop.clone()),
            prompt_only,
            probe,
            usage: Usage { prompt_tokens: prompt.len(), ..Usage::default() },
            first_sampled: None,
            logprobs: (0, 0.),
            ended: false,
        })
    }

    /// The tokens of `text`, with the special tokens the tokenizer itself adds.
    pub async fn tokenize(&self, text: &str) -> Result<Vec<u32>, RequestError> {
        self.prompts().tokenize_any(text.into(), true).await
    }

    /// Ends every answer in progress with the next token.
    pub async fn stop_answers(&self) -> Result<(), RequestError> {
        let sender = self.host().get_sender(None).map_err(RequestError::failed)?;
        let sent = sender.send(EngineRequest::TerminateAllSeqsNextStep).await;
        sent.map_err(|_| RequestError::Failed("it takes no requests".into()))
    }
}

/// Stop tokens by id: those given, and special tokens whose names are stop strings, for these are not
/// part of the text.
fn stop_ids(
    given: Option<StopTokens>,
    stop: &[String],
    vocabulary: &Vocabulary,
) -> Option<StopTokens> {
    let mut ids = match given {
        Some(StopTokens::Ids(ids)) => ids,
        _ => Vec::new(),
    };
    ids.extend(stop.iter().filter_map(|name| vocabulary.special(name)));
    Some(StopTokens::Ids(ids))
}
