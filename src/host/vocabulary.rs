//! Tokens and the bytes they stand for.

use std::sync::Arc;

use mistralrs_core::llguidance::toktrie::{TokEnv, TokTrie};
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
    /// That of `tokenizer`, whose `tokens` are those that the model knows.
    pub(super) fn new(tokenizer: Tokenizer, tokens: TokEnv) -> Self {
        let size = tokens.tok_trie().vocab_size();
        Self { tokenizer: Arc::new(tokenizer), tokens, size }
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

    /// The tokens of `text`; with `add_special` those as well that the tokenizer adds to every text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, RequestError> {
        let encoding = self.tokenizer.encode_fast(text, add_special);
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
