//! The tokens as the engine's grammars know them.

use std::sync::Arc;

use colm_prompt::{PromptFolder, TokenText};
use mistralrs_core::llguidance::toktrie::{
    TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv, INVALID_TOKEN,
};
use tokenizers::Tokenizer;

/// The tokens of the model in `folder`.
pub fn token_env(folder: &PromptFolder) -> TokEnv {
    let words: Vec<Vec<u8>> = folder.token_texts.iter().enumerate().map(word).collect();
    let eos = folder.eos_tokens.first().copied().unwrap_or(INVALID_TOKEN);
    let info = TokRxInfo::new(words.len() as u32, eos);
    let mut trie = TokTrie::from(&info, &words);
    if folder.eos_tokens.len() > 1 {
        trie = trie.with_eos_tokens(&folder.eos_tokens);
    }
    Arc::new(Tokens { trie, tokenizer: folder.continuing_tokenizer() })
}

/// What the trie holds of a token. Special ones have a mark, so that no text is one of them.
fn word((id, text): (usize, &TokenText)) -> Vec<u8> {
    let marked = |name: &str| [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat();
    match text {
        TokenText::Bytes(bytes) => bytes.clone(),
        TokenText::Special(name) => marked(name),
        // The model knows it and the tokenizer does not: no grammar allows it.
        TokenText::None => marked(&format!("<[{id}]>")),
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
        match self.tokenizer.encode_fast(text, false) {
            Ok(encoding) if encoding.get_ids().iter().all(known) => encoding.get_ids().to_vec(),
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
