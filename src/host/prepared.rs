//! From a request to the engine. Everything that does not need the engine's thread is
//! done here first.

use std::sync::Arc;

use candle_core::Tensor;
use colm_checkpoint::ChainCount;
use mistralrs_core::ext::TokenRequest;
use mistralrs_core::llguidance::Matcher;
use mistralrs_core::{CustomLogitsProcessor, Request as EngineRequest};

use super::answer_stream::{AnswerOf, AnswerStream};
use super::engine::Engine;
use super::grammar::matcher_of_answer;
use super::logit_bias::LogitBias;
use super::prompt_probe::PromptProbe;
use super::request_options::RequestOptions;
use super::sampling::sampling_params;
use crate::error::{Error, Result};
use crate::request::{LogitsProcessor, Prompt, Request};

/// A request whose prompt is tokenized and whose grammar is compiled. It can be sent to the engine any number of
/// times.
pub struct Prepared {
    /// Without its prompt, logit bias and logits processors, which are moved to the fields below.
    request: Request,
    prompt: Vec<u32>,
    grammar: Option<Matcher>,
    logits_processors: Vec<Arc<dyn CustomLogitsProcessor>>,
    k: ChainCount,
}

impl Prepared {
    /// The prompt.
    pub fn prompt(&self) -> &[u32] {
        &self.prompt
    }

    /// Whether the request asks for log-probabilities of the prompt.
    pub fn has_probe(&self) -> bool {
        self.request.prompt_logprobs.is_some()
    }

    /// The seed that the request asks for.
    pub fn seed(&self) -> Option<u64> {
        self.request.seed
    }
}

impl Engine {
    /// Checks, tokenizes and compiles `request`. Nearly every error that is the fault of the
    /// request is found here; a grammar can still fail at a later token.
    pub(crate) async fn prepare(&self, mut request: Request) -> Result<Prepared> {
        let k = match request.chains {
            Some(k) => self.chain_count(k.get())?,
            None => self.loaded_chains(),
        };
        let prompt = std::mem::replace(&mut request.prompt, Prompt::Tokens(Vec::new()));
        let prompt = self.prompts().tokens(prompt).await?;
        let grammar = match &request.grammar {
            Some(grammar) => Some(self.grammars().compile(grammar).await?),
            None => None,
        };
        self.check_logit_bias(&request)?;
        if let Some(dry) = &mut request.sampling.dry {
            dry.check(self.vocabulary())?;
        }
        let mut logits_processors: Vec<Arc<dyn CustomLogitsProcessor>> = Vec::new();
        if !request.logit_bias.is_empty() {
            logits_processors.push(Arc::new(LogitBias(std::mem::take(&mut request.logit_bias))));
        }
        for processor in std::mem::take(&mut request.logits_processors) {
            logits_processors.push(Arc::new(HostProcessor(processor)));
        }
        Ok(Prepared { request, prompt, grammar, logits_processors, k })
    }

    fn check_logit_bias(&self, request: &Request) -> Result<()> {
        let checked = self.vocabulary().check(request.logit_bias.iter().map(|(token, _)| *token));
        checked.map_err(|error| match error {
            Error::UnknownToken { token, vocab_size } => Error::UnknownBias { token, vocab_size },
            error => error,
        })
    }

    /// Starts an answer with random numbers from `seed`, or from a random seed. `first`, if there is one, is an answer to
    /// the same request that has computed the prompt: the log-probabilities of the prompt are its own.
    pub(crate) async fn start_answer(
        &self,
        prepared: &Prepared,
        seed: Option<u64>,
        first: Option<&AnswerStream>,
    ) -> Result<AnswerStream> {
        let Some(first) = first else {
            let probe = prepared.request.prompt_logprobs.map(PromptProbe::logprobs_with);
            return self.start_answer_with(prepared, seed, probe).await;
        };
        let mut answer = self.start_answer_with(prepared, seed, None).await?;
        answer.share_probe(first);
        Ok(answer)
    }

    pub(super) async fn start_answer_with(
        &self,
        prepared: &Prepared,
        seed: Option<u64>,
        probe: Option<PromptProbe>,
    ) -> Result<AnswerStream> {
        let Prepared { request, prompt, grammar, logits_processors, k } = prepared;
        let vocabulary = self.vocabulary().clone();
        // Special tokens are not part of the text, so stop strings that name one are stop tokens.
        let stop_tokens = request.stop.iter().filter_map(|name| vocabulary.special(name)).collect();
        let probe = probe.map(|probe| Arc::new(probe.of(prompt.len())));
        let prefix_cache = probe.is_none();
        let fetched = match &self.kv_tier {
            Some(tier) if prefix_cache => tier.fetch(prompt, *k).await,
            _ => None,
        };
        let (drafts, cached_tokens) = (Arc::default(), Arc::default());
        let options = RequestOptions { k: *k, probe, fetched, drafts, cached_tokens };
        let of_answer = AnswerOf { request, prompt_tokens: prompt.len(), options: &options };
        let (stream, tokens, response) = AnswerStream::of(of_answer, vocabulary);
        let engine_request = TokenRequest {
            prompt: prompt.clone(),
            sampling_params: sampling_params(&request.sampling, request.max_tokens, stop_tokens),
            seed: seed.unwrap_or_else(rand::random),
            grammar: grammar.as_ref().map(matcher_of_answer),
            logits_processors: logits_processors.clone(),
            logprobs: request.logprobs,
            prefix_cache,
            model_id: None,
            extension: Some(Arc::new(options)),
            tokens,
            response,
        };
        self.send(EngineRequest::Tokens(Box::new(engine_request))).await?;
        Ok(stream)
    }

    /// Ends every answer in progress with its next token.
    pub(crate) async fn stop_answers(&self) -> Result<()> {
        self.send(EngineRequest::TerminateAllSeqsNextStep).await
    }

    async fn send(&self, request: EngineRequest) -> Result<()> {
        let sender = self.host().get_sender(None).map_err(Error::failed)?;
        let sent = sender.send(request).await;
        sent.map_err(|_| Error::Failed("it takes no requests".into()))
    }
}

/// A [`LogitsProcessor`] as the host takes it.
struct HostProcessor(Arc<dyn LogitsProcessor>);

impl CustomLogitsProcessor for HostProcessor {
    fn apply(&self, logits: &Tensor, context: &[u32]) -> candle_core::Result<Tensor> {
        self.0.apply(logits, context)
    }
}
