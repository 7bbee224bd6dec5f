//! The tokens as the engine's grammars know them.

use std::sync::Arc;

use anyhow::{Context, Result};
use colm_prompt::panics::catch;
use colm_prompt::{encode, PromptFolder, TokenText};
use mistralrs_core::llguidance::toktrie::{
    TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv, INVALID_TOKEN,
};
use tokenizers::Tokenizer;

/// The longest token in bytes that a trie holds.
const LONGEST: usize = 1000;

/// The tokens of the model in `folder`.
pub fn token_env(folder: &PromptFolder) -> Result<TokEnv> {
    let words: Vec<Vec<u8>> = folder.token_texts.iter().enumerate().map(word).collect();
    let eos = folder.eos_tokens.first().copied().unwrap_or(INVALID_TOKEN);
    let info = TokRxInfo::new(words.len() as u32, eos);
    // It panics if the trie has 4,194,304 nodes or more.
    let trie = catch(|| TokTrie::from(&info, &words));
    let mut trie = trie.ok().context("the vocabulary is too large for the engine's grammars")?;
    if folder.eos_tokens.len() > 1 {
        trie = trie.with_eos_tokens(&folder.eos_tokens);
    }
    Ok(Arc::new(Tokens { trie, tokenizer: folder.continuing_tokenizer() }))
}

/// What the trie holds of a token. Special ones have a mark, so that no text is one of them.
fn word((id, text): (usize, &TokenText)) -> Vec<u8> {
    let marked = |name: &str| [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat();
    match text {
        TokenText::Bytes(bytes) if bytes.len() <= LONGEST => bytes.clone(),
        TokenText::Special(name) if name.len() <= LONGEST => marked(name),
        // No grammar allows it: the tokenizer does not know it, or the trie has no place for it.
        _ => marked(&format!("<[{id}]>")),
    }
}

struct Tokens {
    trie: TokTrie,
    /// For text within an answer.
    tokenizer: Tokenizer,
}

impl Tokens {
    fn encode(&self, text: &str) -> Vec<TokenId> {
        let known = |id: &TokenId| (*id as usize) < self.trie.vocab_size();
        match encode(&self.tokenizer, text, false) {
            Ok(tokens) if tokens.iter().all(known) => tokens,
            _ => self.trie.greedy_tokenize(text.as_bytes()),
        }
    }
}

impl TokenizerEnv for Tokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.encode(text))
    }

    fn tokenize_bytes_special(&self, bytes: &[u8]) -> Vec<TokenId> {
        let special = |text: &str| self.trie.tokenize_with_special(text, |text| self.encode(text));
        self.trie.tokenize_with_greedy_fallback(bytes, special)
    }
}
