//! Asking the engine from Rust, each request at its own chain count.

use anyhow::{anyhow, bail, Context, Result};
use candle_core::Tensor;
use either::Either;
use indexmap::IndexMap;
use mistralrs_core::{
    Constraint, NormalRequest, Request as EngineRequest, RequestMessage, Response, SamplingParams,
    TokenizationRequest, Usage,
};
use tokio::sync::mpsc::{channel, Receiver};

use super::chain_choice::{model_id_at, parse_chains};
use super::engine::Engine;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`, as the model's chat template knows them.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A turn of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".into(), content: content.into() }
    }

    /// A turn of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: "assistant".into(), content: content.into() }
    }
}

/// What the model is to go on from.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// A conversation, rendered by the model's chat template.
    Chat(Vec<Message>),
    /// Text, tokenized with the tokenizer's own special tokens.
    Text(String),
    /// Tokens as they are.
    Tokens(Vec<u32>),
}

/// A request to the engine.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to go on from.
    pub prompt: Prompt,
    /// k; all loaded chains if None.
    pub chains: Option<usize>,
    /// How tokens are chosen, and when to stop.
    pub sampling: SamplingParams,
}

impl Request {
    /// Greedy, at all loaded chains, until the model stops.
    pub fn greedy(prompt: Prompt) -> Self {
        Self { prompt, chains: None, sampling: SamplingParams::deterministic() }
    }

    /// At `k` chains.
    pub fn at(mut self, k: usize) -> Self {
        self.chains = Some(k);
        self
    }

    /// At most `tokens` new tokens.
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.sampling.max_len = Some(tokens);
        self
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The new text.
    pub text: String,
    /// `stop`, `length` or `canceled`.
    pub finish_reason: String,
    /// Token counts and speeds, as the host measures them.
    pub usage: Usage,
}

/// A piece of a streamed answer.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    /// The text since the last piece.
    pub text: String,
    /// With the last piece: why the answer ends.
    pub finish_reason: Option<String>,
    /// With the last piece: token counts and speeds, as the host measures them.
    pub usage: Option<Usage>,
}

/// An answer as it comes.
pub struct AnswerStream {
    responses: Receiver<Response>,
}

impl AnswerStream {
    /// The next piece; None after the last.
    pub async fn next(&mut self) -> Result<Option<Piece>> {
        let Some(response) = self.responses.recv().await else {
            return Ok(None);
        };
        Ok(Some(match response {
            Response::Chunk(chunk) => {
                let choice =
                    chunk.choices.into_iter().next().context("a chunk without a choice")?;
                Piece {
                    text: choice.delta.content.unwrap_or_default(),
                    finish_reason: choice.finish_reason,
                    usage: chunk.usage,
                }
            }
            Response::CompletionChunk(chunk) => {
                let choice =
                    chunk.choices.into_iter().next().context("a chunk without a choice")?;
                Piece { text: choice.text, finish_reason: choice.finish_reason, usage: None }
            }
            other => return Err(refusal(other)),
        }))
    }
}

impl Engine {
    /// The whole answer to `request`.
    pub async fn answer(&self, request: Request) -> Result<Answer> {
        let mut responses = self.send(request, false, false).await?;
        let response = responses.recv().await.context("the engine closed without an answer")?;
        match response {
            Response::Done(done) => {
                let choice =
                    done.choices.into_iter().next().context("an answer without a choice")?;
                Ok(Answer {
                    text: choice.message.content.unwrap_or_default(),
                    finish_reason: choice.finish_reason,
                    usage: done.usage,
                })
            }
            Response::CompletionDone(done) => {
                let choice =
                    done.choices.into_iter().next().context("an answer without a choice")?;
                Ok(Answer {
                    text: choice.text,
                    finish_reason: choice.finish_reason,
                    usage: done.usage,
                })
            }
            other => Err(refusal(other)),
        }
    }

    /// The answer to `request`, piece by piece.
    pub async fn stream(&self, request: Request) -> Result<AnswerStream> {
        Ok(AnswerStream { responses: self.send(request, true, false).await? })
    }

    /// The logits after every one of `tokens` at `k` chains, `[tokens, vocab_size]` f32.
    ///
    /// Tokens found in the prefix cache have none: start the engine without it.
    pub async fn logits(&self, tokens: Vec<u32>, k: usize) -> Result<Tensor> {
        let count = tokens.len();
        let request = Request::greedy(Prompt::Tokens(tokens)).at(k).max_tokens(1);
        let mut responses = self.send(request, false, true).await?;
        match responses.recv().await.context("the engine closed without logits")? {
            Response::Raw { logits_chunks, .. } => {
                let logits = Tensor::cat(&logits_chunks, 0)?;
                if logits.dim(0)? < count {
                    bail!(
                        "{} of {count} tokens came from the prefix cache",
                        count - logits.dim(0)?
                    );
                }
                // Shorter than its batch: the engine has padded it.
                Ok(logits.narrow(0, 0, count)?)
            }
            other => Err(refusal(other)),
        }
    }

    /// The tokens of `text`, with the special tokens the tokenizer itself adds.
    pub async fn tokenize(&self, text: &str) -> Result<Vec<u32>> {
        let (response, mut tokens) = channel(1);
        let request = EngineRequest::Tokenize(TokenizationRequest {
            text: Either::Right(text.into()),
            tools: None,
            add_generation_prompt: false,
            add_special_tokens: true,
            enable_thinking: None,
            reasoning_effort: None,
            response,
        });
        self.host().get_sender(None)?.send(request).await?;
        tokens.recv().await.context("the engine closed without tokens")?
    }

    /// Ends every answer in progress with the next token.
    pub async fn stop_answers(&self) -> Result<()> {
        let stop = EngineRequest::TerminateAllSeqsNextStep;
        Ok(self.host().get_sender(None)?.send(stop).await?)
    }

    async fn send(
        &self,
        request: Request,
        stream: bool,
        raw_logits: bool,
    ) -> Result<Receiver<Response>> {
        let k = match request.chains {
            Some(k) => parse_chains(&k.to_string(), self.chains())?,
            None => self.chains(),
        };
        let (response, responses) = channel(RESPONSES_AHEAD);
        let request = NormalRequest {
            is_streaming: stream,
            return_raw_logits: raw_logits,
            model_id: Some(model_id_at(self.name(), k)),
            constraint: Constraint::None,
            ..NormalRequest::new_simple(
                messages(request.prompt),
                request.sampling,
                response,
                self.host().next_request_id(),
                None,
                None,
            )
        };
        let sender = self.host().get_sender(None)?;
        sender.send(EngineRequest::Normal(Box::new(request))).await?;
        Ok(responses)
    }
}

/// Responses the engine may send before somebody reads them.
const RESPONSES_AHEAD: usize = 10_000;

fn messages(prompt: Prompt) -> RequestMessage {
    match prompt {
        Prompt::Tokens(tokens) => RequestMessage::CompletionTokens(tokens),
        Prompt::Text(text) => {
            RequestMessage::Completion { text, echo_prompt: false, best_of: None }
        }
        Prompt::Chat(messages) => {
            let message = |message: Message| {
                IndexMap::from([
                    ("role".to_string(), Either::Left(message.role)),
                    ("content".to_string(), Either::Left(message.content)),
                ])
            };
            let messages = messages.into_iter().map(message).collect();
            RequestMessage::Chat { messages, enable_thinking: None, reasoning_effort: None }
        }
    }
}

/// What the engine says instead of an answer.
fn refusal(response: Response) -> anyhow::Error {
    match response.as_result() {
        Ok(_) => anyhow!("the engine sent an answer of another kind than asked for"),
        Err(error) => anyhow!("{error}"),
    }
}
