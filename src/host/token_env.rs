//! The vocabulary in the form that the grammar engine uses.

use std::sync::Arc;

use anyhow::{Context, Result};
use colm_checkpoint::panics::catch;
use colm_prompt::{encode, PromptFolder, TokenText};
use mistralrs_core::llguidance::toktrie::{
    TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv, INVALID_TOKEN,
};
use tokenizers::Tokenizer;

/// The longest token that the trie stores, in bytes.
const MAX_TOKEN_BYTES: usize = 1000;

/// The vocabulary of the model in `folder`.
pub fn token_env(folder: &PromptFolder) -> Result<TokEnv> {
    let entries: Vec<Vec<u8>> = folder.token_texts.iter().enumerate().map(trie_entry).collect();
    let eos = folder.eos_tokens.first().copied().unwrap_or(INVALID_TOKEN);
    let info = TokRxInfo::new(entries.len() as u32, eos);
    // `from` panics if the trie has 4,194,304 nodes or more.
    let trie = catch(|| TokTrie::from(&info, &entries));
    let mut trie = trie.ok().context("the vocabulary is too large for the engine's grammars")?;
    if folder.eos_tokens.len() > 1 {
        trie = trie.with_eos_tokens(&folder.eos_tokens);
    }
    Ok(Arc::new(Tokens { trie, tokenizer: folder.continuing_tokenizer() }))
}

/// The entry of a token in the trie. Special tokens have a marker byte, so that no text matches them.
fn trie_entry((id, text): (usize, &TokenText)) -> Vec<u8> {
    let marked = |name: &str| [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat();
    match text {
        TokenText::Bytes(bytes) if bytes.len() <= MAX_TOKEN_BYTES => bytes.clone(),
        TokenText::Special(name) if name.len() <= MAX_TOKEN_BYTES => marked(name),
        // No grammar allows this token: the tokenizer does not have it, or it is too long for the trie.
        _ => marked(&format!("<[{id}]>")),
    }
}

struct Tokens {
    trie: TokTrie,
    /// The tokenizer for text in the middle of an answer.
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
