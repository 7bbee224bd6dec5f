//! From a request to the engine: what need not be done on its thread is done before.

use std::sync::Arc;

use mistralrs_core::ext::TokenRequest;
use mistralrs_core::llguidance::Matcher;
use mistralrs_core::{Request as EngineRequest, StopTokens};

use super::answer::{Answer, AnswerStream};
use super::chain_choice::{model_id_at, parse_chains};
use super::engine::Engine;
use super::logit_bias::LogitBias;
use super::prompt_probe::PromptProbe;
use super::request::{Prompt, Request, RequestError};
use super::vocabulary::Vocabulary;

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
        self.vocabulary().check(request.logit_bias.iter().map(|(token, _)| *token))?;
        if !request.logit_bias.is_empty() {
            let bias = LogitBias(std::mem::take(&mut request.logit_bias));
            request.logits_processors.insert(0, Arc::new(bias));
        }
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
        let probe = probe.map(|probe| Arc::new(probe.of(prompt.len())));
        let (stream, tokens, response) =
            AnswerStream::of(request, prompt.len(), vocabulary, probe.clone());
        let engine_request = TokenRequest {
            prompt: prompt.clone(),
            sampling_params: sampling,
            seed: seed.unwrap_or_else(rand::random),
            grammar: grammar.clone(),
            logits_processors: request.logits_processors.clone(),
            logprobs: request.logprobs,
            prefix_cache: probe.is_none(),
            model_id: Some(model_id_at(self.name(), *k)),
            extension: probe.map(|probe| probe as _),
            tokens,
            response,
        };
        self.send(EngineRequest::Tokens(Box::new(engine_request))).await?;
        Ok(stream)
    }

    /// The tokens of `text`, with the special tokens the tokenizer itself adds.
    pub async fn tokenize(&self, text: &str) -> Result<Vec<u32>, RequestError> {
        self.prompts().tokenize_any(text.into()).await
    }

    /// Ends every answer in progress with the next token.
    pub async fn stop_answers(&self) -> Result<(), RequestError> {
        self.send(EngineRequest::TerminateAllSeqsNextStep).await
    }

    async fn send(&self, request: EngineRequest) -> Result<(), RequestError> {
        let sender = self.host().get_sender(None).map_err(RequestError::failed)?;
        let sent = sender.send(request).await;
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
