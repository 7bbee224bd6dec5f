//! What a request to the engine says.

use std::sync::Arc;

use colm_prompt::Conversation;
use mistralrs_core::{CustomLogitsProcessor, SamplingParams};
use serde_json::Map;
use thiserror::Error;

use super::chain_choice::ChainsRefused;
use super::grammar::{Grammar, GrammarRefused};

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

/// A conversation of these turns, at whose end the model answers.
pub(super) fn conversation(messages: Vec<Message>) -> Conversation {
    let message = |Message { role, content }: Message| {
        Map::from_iter([("role".into(), role.into()), ("content".into(), content.into())])
    };
    let messages = messages.into_iter().map(message).collect();
    Conversation { messages, add_generation_prompt: true, ..Conversation::default() }
}

/// What the model is to go on from.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// A conversation, rendered by the model's chat template.
    Chat(Vec<Message>),
    /// A conversation with all that a chat template can show.
    Conversation(Box<Conversation>),
    /// Text, tokenized with the tokenizer's own special tokens.
    Text(String),
    /// Tokens as they are.
    Tokens(Vec<u32>),
}

/// A request to the engine.
#[derive(Clone)]
pub struct Request {
    /// What to go on from.
    pub prompt: Prompt,
    /// k; all loaded chains if None.
    pub chains: Option<usize>,
    /// How tokens are chosen, and the most of them. Stop tokens are ids; for strings see `stop`.
    pub sampling: SamplingParams,
    /// The answer ends before the earliest of these.
    pub stop: Vec<String>,
    /// Equal requests with equal seeds get equal answers; from the system's randomness if None.
    pub seed: Option<u64>,
    /// What the answer must match.
    pub grammar: Option<Grammar>,
    /// Log-probabilities of the answer's tokens, with those of so many of the likeliest.
    pub logprobs: Option<usize>,
    /// Log-probabilities of the prompt's tokens, with those of so many of the likeliest.
    pub prompt_logprobs: Option<usize>,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Applied to the logits after the penalties and the bias.
    pub logits_processors: Vec<Arc<dyn CustomLogitsProcessor>>,
    /// Special tokens to show in the text; the others are left out.
    pub shown_tokens: &'static [&'static str],
}

impl Request {
    /// Greedy, at all loaded chains, until the model stops.
    pub fn greedy(prompt: Prompt) -> Self {
        Self {
            prompt,
            chains: None,
            sampling: SamplingParams::deterministic(),
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

/// Why a request is not answered, or not to its end.
#[derive(Debug, Error)]
pub enum RequestError {
    /// k is out of range.
    #[error(transparent)]
    Chains(#[from] ChainsRefused),
    /// There is nothing to go on from.
    #[error("the prompt is empty: expected at least one token")]
    EmptyPrompt,
    /// More tokens than the model or its KV cache can hold.
    #[error("the prompt has {tokens} tokens; the longest sequence is {longest} tokens")]
    ContextLength {
        /// Of the prompt.
        tokens: usize,
        /// Of the prompt and the answer.
        longest: usize,
    },
    /// More text than could be so few tokens.
    #[error(
        "the prompt has {bytes} bytes; the longest sequence of {longest} tokens holds no more than {most} bytes"
    )]
    TextLength {
        /// Of the prompt.
        bytes: usize,
        /// The most that the tokens can say.
        most: usize,
        /// The longest sequence, in tokens.
        longest: usize,
    },
    /// A token that the model does not know.
    #[error("token {token} is not in the vocabulary: expected 0 to {}", vocab_size - 1)]
    UnknownToken {
        /// The token.
        token: u32,
        /// The size of the vocabulary.
        vocab_size: usize,
    },
    /// A conversation for a model that has no template for it.
    #[error(
        "the model has no chat template (chat_template.jinja, or `chat_template` in tokenizer_config.json): send a \
         text or tokens"
    )]
    NoChatTemplate,
    /// The chat template raised an error.
    #[error("the chat template refuses this conversation: {0}")]
    ChatTemplate(String),
    /// The tokenizer failed.
    #[error("the tokenizer refuses this text: {0}")]
    Tokenizer(String),
    /// The grammar cannot be used.
    #[error(transparent)]
    Grammar(#[from] GrammarRefused),
    /// The engine refuses the request.
    #[error("{0}")]
    Refused(String),
    /// The engine failed; not the request's fault.
    #[error("the engine failed: {0}")]
    Failed(String),
    /// The engine is being stopped.
    #[error("the engine has been stopped")]
    Stopped,
}

impl RequestError {
    /// Of a message of the host: its first line, for others are backtraces.
    pub(super) fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(first_line(&error.to_string()))
    }
}

/// Errors of the host carry backtraces where RUST_BACKTRACE is set.
pub(super) fn first_line(message: &str) -> String {
    message.trim().lines().next().unwrap_or("no reason was given").to_string()
}
