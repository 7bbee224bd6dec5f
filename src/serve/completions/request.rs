//! The body of `POST /v1/completions`.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::serve::answers::SourceFields;
use crate::serve::error::ApiError;
use crate::serve::fields::Fields;
use crate::serve::format::{grammar, GrammarField, ResponseFormat};
use crate::serve::labels::Labels;
use crate::serve::limits::{RequestLimits, MAX_TOP_LOGPROBS};
use crate::serve::model_choice::ModelFields;
use crate::serve::sampling::{in_range, SamplingFields, Stop};
use crate::serve::stream_options::StreamOptions;
use crate::{ChainCount, Prompt, Request, SamplingDefaults};

/// The default of `max_tokens`: OpenAI's.
const MAX_TOKENS: u32 = 16;

/// The body, for the OpenAPI document.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "describes the body")]
pub struct CompletionRequest {
    #[serde(flatten)]
    model: ModelFields,
    #[serde(flatten)]
    completion: CompletionFields,
    #[serde(flatten)]
    sampling: SamplingFields,
}

/// The fields of a completion.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CompletionFields {
    prompt: PromptField,
    /// The maximum number of tokens of an answer. 0 only processes the prompt.
    #[schema(default = 16)]
    max_tokens: Option<u32>,
    /// The number of answers to each prompt.
    #[schema(minimum = 1, maximum = 128, default = 1)]
    n: Option<u32>,
    /// Generate this many answers to each prompt, and return the n with the highest mean log-probability.
    #[schema(minimum = 1, maximum = 128)]
    best_of: Option<u32>,
    stop: Option<Stop>,
    /// Send the answer as server-sent events.
    #[schema(default = false)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// Return the log-probabilities of the tokens, and of this many most likely tokens at each position.
    #[schema(minimum = 0, maximum = 20)]
    logprobs: Option<u32>,
    /// Repeat the prompt before the answer. With `logprobs`, its log-probabilities are returned as well.
    #[schema(default = false)]
    echo: Option<bool>,
    response_format: Option<ResponseFormat>,
    grammar: Option<GrammarField>,
}

/// One or more prompts, as texts or as tokens.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a text, a list of texts, a list of tokens or a list of lists of tokens"
)]
pub enum PromptField {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

impl PromptField {
    fn prompts(self) -> Vec<Prompt> {
        match self {
            Self::Text(text) => vec![Prompt::Text(text)],
            Self::Tokens(tokens) => vec![Prompt::Tokens(tokens)],
            Self::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
            Self::TokenLists(lists) => lists.into_iter().map(Prompt::Tokens).collect(),
        }
    }
}

/// A validated request of the completions endpoint.
pub struct Completions {
    /// One per prompt.
    pub requests: Vec<Request>,
    pub source_fields: SourceFields,
    /// The number of answers returned for each prompt.
    pub n: usize,
    /// The number of answers generated for each prompt.
    pub best_of: usize,
    pub echo: bool,
    pub logprobs: bool,
    pub stream: bool,
    pub include_usage: bool,
}

impl Completions {
    /// Validates `fields` for answers at `k` chains. `limits` are those of the server, `defaults` the
    /// model's sampling defaults.
    pub fn from_fields(
        fields: &mut Fields,
        k: ChainCount,
        limits: &RequestLimits,
        defaults: &SamplingDefaults,
    ) -> Result<Self, ApiError> {
        let completion: CompletionFields = fields.take()?;
        let sampling: SamplingFields = fields.take()?;
        fields.take::<Labels>()?.check()?;
        let stream = completion.stream.unwrap_or(false);
        let prompts = completion.prompt.prompts();
        if prompts.is_empty() {
            return Err(ApiError::invalid_value("prompt", "prompt: expected at least one prompt"));
        }
        let (n, best_of) = choices(completion.n, completion.best_of, stream)?;
        let max_tokens = completion.max_tokens.unwrap_or(limits.default_tokens(MAX_TOKENS));
        let choices = match (completion.best_of, completion.n) {
            (Some(_), _) => "best_of",
            (None, Some(_)) => "n",
            (None, None) => "prompt",
        };
        limits.check_choices(choices, best_of, prompts.len(), Some(max_tokens))?;
        in_range("logprobs", completion.logprobs, 0..=MAX_TOP_LOGPROBS)?;
        let top = completion.logprobs.map(|top| top as usize);
        let echo = completion.echo.unwrap_or(false);
        let include_usage = StreamOptions::include_usage(completion.stream_options, stream)?;

        let mut request = Request::tokens([]).chains(k);
        sampling.apply(&mut request, defaults)?;
        request.max_tokens = Some(max_tokens as usize);
        request.stop = Stop::strings(completion.stop)?;
        let (field, grammar) = grammar(completion.response_format, completion.grammar)?.unzip();
        request.grammar = grammar;
        let source_fields =
            SourceFields { prompt: "prompt", grammar: field, max_tokens: "max_tokens", choices };
        request.logprobs = top.or((best_of > n).then_some(0));
        request.prompt_logprobs = top.filter(|_| echo);
        let requests = prompts.into_iter().map(|prompt| Request { prompt, ..request.clone() });
        Ok(Self {
            requests: requests.collect(),
            source_fields,
            n: n as usize,
            best_of: best_of as usize,
            echo,
            logprobs: top.is_some(),
            stream,
            include_usage,
        })
    }
}

fn choices(n: Option<u32>, best_of: Option<u32>, stream: bool) -> Result<(u32, u32), ApiError> {
    let n = n.unwrap_or(1);
    let best_of = best_of.unwrap_or(n);
    if best_of < n {
        let message = format!("best_of is {best_of}: expected at least n = {n}");
        return Err(ApiError::invalid_value("best_of", message));
    }
    if stream && best_of > n {
        let message = "best_of cannot be streamed: expected best_of = n or no stream";
        return Err(ApiError::invalid_value("best_of", message));
    }
    Ok((n, best_of))
}
