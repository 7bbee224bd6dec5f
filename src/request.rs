//! Requests to the engine.

use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;
use colm_checkpoint::ChainCount;
use colm_prompt::Conversation;
use serde_json::Map;

use crate::grammar::Grammar;
use crate::sampling::Sampling;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`, as the model's chat template knows them.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of any role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// Instructions to the model.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// A message of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

/// The conversation of `messages`, which the model answers.
pub(crate) fn conversation(messages: Vec<Message>) -> Conversation {
    let message = |Message { role, content }: Message| {
        Map::from_iter([("role".into(), role.into()), ("content".into(), content.into())])
    };
    let messages = messages.into_iter().map(message).collect();
    Conversation { messages, add_generation_prompt: true, ..Conversation::default() }
}

/// What the model continues.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Prompt {
    /// A conversation, rendered by the model's chat template.
    Chat(Vec<Message>),
    /// A conversation with everything that a chat template can show, such as tools.
    Conversation(Box<Conversation>),
    /// A text, with the special tokens that the tokenizer adds to every text.
    Text(String),
    /// Token ids, as they are.
    Tokens(Vec<u32>),
}

/// Changes logits before a token is chosen from them.
pub trait LogitsProcessor: Send + Sync {
    /// The new logits. `logits` is `[vocab_size]` f32, after penalties and bias; `tokens` are those of the prompt and
    /// of the answer so far. An error fails the request.
    fn apply(&self, logits: &Tensor, tokens: &[u32]) -> candle_core::Result<Tensor>;
}

impl<F> LogitsProcessor for F
where
    F: Fn(&Tensor, &[u32]) -> candle_core::Result<Tensor> + Send + Sync,
{
    fn apply(&self, logits: &Tensor, tokens: &[u32]) -> candle_core::Result<Tensor> {
        self(logits, tokens)
    }
}

/// A request to the engine.
///
/// Made with [`Request::chat`], [`Request::text`], [`Request::tokens`] or [`Request::new`]. Unless told otherwise, it
/// is answered greedily, at all loaded chains, until the model ends the answer or the context is full.
#[derive(Clone)]
#[non_exhaustive]
pub struct Request {
    /// What the model continues.
    pub prompt: Prompt,
    /// k; all loaded chains if None.
    pub chains: Option<ChainCount>,
    /// The most tokens of the answer; as many as the context holds if None.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The answer ends before the first occurrence of any of these.
    pub stop: Vec<String>,
    /// Equal requests with equal seeds get equal answers. None takes a random seed.
    pub seed: Option<u64>,
    /// What the answer must match.
    pub grammar: Option<Grammar>,
    /// Return log-probabilities of the answer's tokens, and of this many of the most likely tokens at each position.
    pub logprobs: Option<usize>,
    /// The same for the prompt's tokens. The prompt does not use the prefix cache then.
    pub prompt_logprobs: Option<usize>,
    /// Added to the logits of these token ids.
    pub logit_bias: Vec<(u32, f32)>,
    /// Applied to the logits, in order, after penalties and bias.
    pub logits_processors: Vec<Arc<dyn LogitsProcessor>>,
    /// Special tokens that are shown in the text. The others are not.
    pub(crate) shown_tokens: &'static [&'static str],
}

impl Request {
    /// A request to continue `prompt`.
    pub fn new(prompt: Prompt) -> Self {
        Self {
            prompt,
            chains: None,
            max_tokens: None,
            sampling: Sampling::default(),
            stop: Vec::new(),
            seed: None,
            grammar: None,
            logprobs: None,
            prompt_logprobs: None,
            logit_bias: Vec::new(),
            logits_processors: Vec::new(),
            shown_tokens: &[],
        }
    }

    /// A request to answer a conversation.
    pub fn chat(messages: impl IntoIterator<Item = Message>) -> Self {
        Self::new(Prompt::Chat(messages.into_iter().collect()))
    }

    /// A request to continue a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Prompt::Text(text.into()))
    }

    /// A request to continue tokens.
    pub fn tokens(tokens: impl Into<Vec<u32>>) -> Self {
        Self::new(Prompt::Tokens(tokens.into()))
    }

    /// Answers at `k` chains.
    pub fn chains(mut self, k: ChainCount) -> Self {
        self.chains = Some(k);
        self
    }

    /// Limits the answer to `tokens` tokens.
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    /// Sets how tokens are chosen.
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Samples at this temperature; 0 is greedy.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.sampling.temperature = temperature;
        self
    }

    /// Seeds the random numbers that sampling uses.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Ends the answer before the first occurrence of any of these.
    pub fn stop(mut self, stop: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.stop = stop.into_iter().map(Into::into).collect();
        self
    }

    /// Adds to the logits of token ids.
    pub fn logit_bias(mut self, bias: impl IntoIterator<Item = (u32, f32)>) -> Self {
        self.logit_bias = bias.into_iter().collect();
        self
    }

    /// Makes the answer match `grammar`.
    pub fn grammar(mut self, grammar: Grammar) -> Self {
        self.grammar = Some(grammar);
        self
    }

    /// Returns log-probabilities of the answer's tokens, and of the `top` most likely ones at each position.
    pub fn logprobs(mut self, top: usize) -> Self {
        self.logprobs = Some(top);
        self
    }

    /// Returns log-probabilities of the prompt's tokens, and of the `top` most likely ones at each position.
    pub fn prompt_logprobs(mut self, top: usize) -> Self {
        self.prompt_logprobs = Some(top);
        self
    }

    /// Applies `processor` to the logits, after those that were added before.
    pub fn logits_processor(mut self, processor: impl LogitsProcessor + 'static) -> Self {
        self.logits_processors.push(Arc::new(processor));
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("prompt", &self.prompt)
            .field("chains", &self.chains)
            .field("max_tokens", &self.max_tokens)
            .field("sampling", &self.sampling)
            .field("stop", &self.stop)
            .field("seed", &self.seed)
            .field("grammar", &self.grammar)
            .field("logprobs", &self.logprobs)
            .field("prompt_logprobs", &self.prompt_logprobs)
            .field("logit_bias", &self.logit_bias)
            .field("logits_processors", &self.logits_processors.len())
            .finish_non_exhaustive()
    }
}
