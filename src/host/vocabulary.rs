//! Tokens and the bytes they stand for.

use std::sync::Arc;

use colm_prompt::{encode, PromptFolder, TokenText};
use mistralrs_core::llguidance::toktrie::TokEnv;

use crate::error::{Error, Result};

/// The model's tokenizer, in both directions.
#[derive(Clone)]
pub struct Vocabulary {
    folder: Arc<PromptFolder>,
    /// The form for grammars.
    tokens: TokEnv,
}

impl Vocabulary {
    /// The vocabulary of the model in `folder`; `tokens` is its form for grammars.
    pub(super) fn new(folder: Arc<PromptFolder>, tokens: TokEnv) -> Self {
        Self { folder, tokens }
    }

    /// The most bytes a token stands for.
    pub fn longest_token(&self) -> usize {
        self.folder.longest_token()
    }

    /// The bytes of text that `token` stands for; none for special tokens that are not in `shown`.
    pub fn text_bytes(&self, token: u32, shown: &[&str]) -> &[u8] {
        match self.text(token) {
            Some(TokenText::Bytes(bytes)) => bytes,
            Some(TokenText::Special(name)) if shown.contains(&name.as_str()) => name.as_bytes(),
            _ => &[],
        }
    }

    /// The bytes that `token` stands for; the name of a special token.
    pub fn bytes(&self, token: u32) -> &[u8] {
        match self.text(token) {
            Some(TokenText::Bytes(bytes)) => bytes,
            Some(TokenText::Special(name)) => name.as_bytes(),
            Some(TokenText::None) | None => &[],
        }
    }

    /// The id of the special token called `name`.
    pub fn special(&self, name: &str) -> Option<u32> {
        self.tokens.tok_trie().get_special_token(name)
    }

    /// Fails if one of `tokens` is not in the vocabulary.
    pub fn check(&self, tokens: impl IntoIterator<Item = u32>) -> Result<()> {
        let vocab_size = self.folder.token_texts.len();
        match tokens.into_iter().find(|&token| token as usize >= vocab_size) {
            Some(token) => Err(Error::UnknownToken { token, vocab_size }),
            None => Ok(()),
        }
    }

    /// The tokens of `text`. With `add_special`, also the special tokens that the tokenizer adds to every text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        encode(&self.folder.tokenizer, text, add_special).map_err(Error::Tokenizer)
    }

    fn text(&self, token: u32) -> Option<&TokenText> {
        self.folder.token_texts.get(token as usize)
    }
}
