//! Everything that can go wrong.

use colm_checkpoint::ChainCountError;
use thiserror::Error;

use crate::grammar::GrammarError;

/// The result of an operation that fails with an [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an engine does not start, or a request is not answered.
///
/// Messages name options of [`EngineBuilder`](crate::EngineBuilder) and [`serve`](crate::serve) and fields of config
/// files in backticks.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// An option of the engine or the server has a value that cannot work.
    #[error("`{option}` {value}: {problem}")]
    InvalidOption {
        /// The name of the option: a function of [`EngineBuilder`](crate::EngineBuilder), a field of
        /// [`ServeOptions`](crate::serve::ServeOptions), or an argument of [`serve`](crate::serve::serve).
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// The model cannot be found, read or run; the source says why.
    #[error("cannot load {model}")]
    Load {
        /// The model, as it was given to [`Engine::builder`](crate::Engine::builder).
        model: String,
        /// The reason, which names the file and the field or tensor.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server cannot listen or accept connections.
    #[error("cannot serve")]
    Serve {
        /// The error of the operating system.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The request asks for more chains than are loaded.
    #[error(transparent)]
    ChainCount(#[from] ChainCountError),
    /// The prompt has no tokens.
    #[error("the prompt is empty: expected at least one token")]
    EmptyPrompt,
    /// The prompt has more tokens than the model's context or the KV cache can hold.
    #[error("the prompt has {tokens} tokens: expected at most {longest}, what the context and the KV cache can hold")]
    ContextLength {
        /// Tokens of the prompt.
        tokens: usize,
        /// The most tokens of prompt and answer together.
        longest: usize,
    },
    /// The prompt has so much text that it must be longer than the model's context. It was not tokenized.
    #[error(
        "the prompt has more than {most} bytes, which is more text than {longest} tokens can have"
    )]
    TextLength {
        /// The most bytes that `longest` tokens can have.
        most: usize,
        /// The longest sequence, in tokens.
        longest: usize,
    },
    /// A token id of the prompt that the model does not have.
    #[error("token {token} is not in the vocabulary: expected 0 to {}", vocab_size - 1)]
    UnknownToken {
        /// The token.
        token: u32,
        /// The size of the vocabulary.
        vocab_size: usize,
    },
    /// A logit bias for a token id that the model does not have.
    #[error("`logit_bias`: token {token} is not in the vocabulary: expected 0 to {}", vocab_size - 1)]
    UnknownBias {
        /// The token.
        token: u32,
        /// The size of the vocabulary.
        vocab_size: usize,
    },
    /// A parameter of the DRY sampler that cannot work.
    #[error("`{field}`: {problem}")]
    InvalidDry {
        /// `dry_allowed_length` or `dry_sequence_breakers`.
        field: &'static str,
        /// Its value, what is wrong with it, and what is expected.
        problem: String,
    },
    /// A conversation for a model without a chat template.
    #[error(
        "the model has no chat template (chat_template.jinja, or `chat_template` in tokenizer_config.json): expected a \
         prompt of plain text or tokens"
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
    Grammar(#[from] GrammarError),
    /// The engine refuses the request.
    #[error("{0}")]
    Refused(String),
    /// The engine failed; the request is not at fault.
    #[error("the engine failed: {0}")]
    Failed(String),
    /// The engine is being stopped.
    #[error("the engine has been stopped")]
    Stopped,
}

impl Error {
    /// `error`, which has occurred while `model` was found, read or loaded.
    pub(crate) fn load(model: &str, error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => Self::Load { model: model.into(), source: error.into() },
        }
    }

    /// The host's error `error`, without its backtrace.
    pub(crate) fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(first_line(&error.to_string()))
    }
}

/// The first line of an error of the host, whose messages end with a backtrace if RUST_BACKTRACE is set.
pub(crate) fn first_line(message: &str) -> String {
    message.trim().lines().next().unwrap_or("no reason was given").to_string()
}
