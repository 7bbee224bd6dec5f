//! Tokens and the bytes they stand for.

use std::sync::Arc;

use anyhow::{Context, Result};
use mistralrs_core::llguidance::toktrie::{TokEnv, TokTrie};
use mistralrs_core::Pipeline;
use tokenizers::Tokenizer;

use super::request::{first_line, RequestError};

/// The model's tokenizer, in both directions.
#[derive(Clone)]
pub struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    /// The bytes of each token, as the engine's grammars know them.
    tokens: TokEnv,
    /// How many tokens the model knows.
    size: usize,
}

impl Vocabulary {
    /// That of `pipeline`, whose model knows `size` tokens.
    pub(super) fn new(pipeline: &dyn Pipeline, size: usize) -> Result<Self> {
        let tokenizer = pipeline.tokenizer().context("the model has no tokenizer")?;
        let tokens = pipeline.get_metadata().tok_env().context("the tokenizer has no tokens")?;
        Ok(Self { tokenizer, tokens, size })
    }

    /// The most bytes a token stands for.
    pub fn longest_token(&self) -> usize {
        self.trie().max_token_len().max(1)
    }

    /// The bytes of text that `token` stands for: none for special tokens but those in `shown`.
    pub fn text_bytes(&self, token: u32, shown: &[&str]) -> &[u8] {
        let bytes = self.bytes(token);
        match self.is_special(token) && !shown.iter().any(|shown| shown.as_bytes() == bytes) {
            true => &[],
            false => bytes,
        }
    }

    /// The bytes of `token`, the name of a special one.
    pub fn bytes(&self, token: u32) -> &[u8] {
        match self.trie().token(token) {
            [TokTrie::SPECIAL_TOKEN_MARKER, name @ ..] => name,
            bytes => bytes,
        }
    }

    /// The id of the special token called `name`.
    pub fn special(&self, name: &str) -> Option<u32> {
        self.trie().get_special_token(name)
    }

    /// Refuses tokens that the model does not know.
    pub fn check(&self, tokens: impl IntoIterator<Item = u32>) -> Result<(), RequestError> {
        let vocab_size = self.size;
        match tokens.into_iter().find(|&token| token as usize >= vocab_size) {
            Some(token) => Err(RequestError::UnknownToken { token, vocab_size }),
            None => Ok(()),
        }
    }

    /// The tokens of `text`, with those that the tokenizer adds to every text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, RequestError> {
        let encoding = self.tokenizer.encode_fast(text, true);
        let encoding =
            encoding.map_err(|error| RequestError::Tokenizer(first_line(&error.to_string())))?;
        Ok(encoding.get_ids().to_vec())
    }

    fn is_special(&self, token: u32) -> bool {
        self.trie().is_special_token(token)
    }

    fn trie(&self) -> &TokTrie {
        self.tokens.tok_trie()
    }
}
