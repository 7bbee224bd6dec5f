//! The tokenizer (byte-level BPE with a token per digit) and the chat format.

use std::path::Path;

use anyhow::{anyhow, Context, Result};
use serde_json::json;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BpeTrainer, BPE};
use tokenizers::models::TrainerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{AddedToken, Model, Tokenizer};

use crate::data::{Conversation, DataSplit, Generator, Mix};
use crate::stale_files::remove_stale_tokenizer_files;

/// The end of a turn, which also ends generation.
pub const END: &str = "<|end|>";
/// The start of a user turn.
pub const USER: &str = "<|user|>";
/// The start of an assistant turn.
pub const ASSISTANT: &str = "<|assistant|>";
/// The start of a system message.
pub const SYSTEM: &str = "<|system|>";

/// The special tokens in the order of their ids.
pub const SPECIAL: [&str; 4] = [END, USER, ASSISTANT, SYSTEM];

/// The Jinja chat template, which renders the same format as [`ChatTokenizer::encode`]. The content of a message may be
/// a string or a list of text parts.
pub const CHAT_TEMPLATE: &str = concat!(
    "{%- for message in messages -%}",
    "{{ '<|' + message.role + '|>' }}",
    "{%- if message.content is string -%}{{ message.content }}",
    "{%- else -%}{%- for part in message.content -%}{{ part.text }}{%- endfor -%}{%- endif -%}",
    "{{ '<|end|>' }}",
    "{%- endfor -%}",
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}",
);

/// A tokenizer with the chat format.
#[derive(Clone)]
pub struct ChatTokenizer {
    tokenizer: Tokenizer,
}

/// The token ids of a conversation, and which of them belong to answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each id, whether it belongs to an answer, including its end of turn.
    pub is_answer: Vec<bool>,
}

impl Encoded {
    fn push(&mut self, ids: &[u32], answer: bool) {
        self.ids.extend(ids);
        self.is_answer.extend(std::iter::repeat_n(answer, ids.len()));
    }
}

impl ChatTokenizer {
    /// The id of [`END`].
    pub const END_ID: u32 = 0;
    const USER_ID: u32 = 1;
    const ASSISTANT_ID: u32 = 2;
    const SYSTEM_ID: u32 = 3;

    /// Trains a vocabulary of at most `vocab_size` tokens on `conversations` generated training conversations.
    pub fn train(seed: u64, conversations: usize, vocab_size: usize, mix: Mix) -> Result<Self> {
        let mut tokenizer = Tokenizer::new(BPE::default());
        // Split digits first, so that numbers are always tokenized digit by digit.
        tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
            PreTokenizerWrapper::Digits(Digits::new(true)),
            PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, true)),
        ])));
        tokenizer.with_decoder(Some(ByteLevelDecoder::new(false, false, true)));
        let mut trainer: TrainerWrapper = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(SPECIAL.iter().map(|&token| AddedToken::from(token, true)).collect())
            .build()
            .into();
        let mut generator = Generator::new(seed, u64::MAX, DataSplit::Train, mix);
        let text = (0..conversations).flat_map(|_| {
            let conversation = generator.conversation();
            let system = conversation.system.map(str::to_string).into_iter();
            let turns = conversation.turns.into_iter();
            system.chain(turns.flat_map(|turn| [turn.prompt, turn.answer])).collect::<Vec<_>>()
        });
        tokenizer
            .train(&mut trainer, text)
            .map_err(|error| anyhow!("training the tokenizer: {error}"))?;
        Self::new(tokenizer)
    }

    /// Reads `tokenizer.json` in `dir`.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let tokenizer =
            Tokenizer::from_file(&path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        Self::new(tokenizer).with_context(|| path.display().to_string())
    }

    fn new(tokenizer: Tokenizer) -> Result<Self> {
        for (id, token) in SPECIAL.iter().enumerate() {
            let found = tokenizer.token_to_id(token);
            if found != Some(id as u32) {
                return Err(anyhow!("special token {token} has id {found:?}; expected {id}"));
            }
        }
        Ok(Self { tokenizer })
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json`, which has the chat template, to `dir`. Removes the files of
    /// a model that `dir` had before and that readers would prefer.
    pub fn save(&self, dir: &Path, max_tokens: usize) -> Result<()> {
        self.tokenizer
            .save(dir.join("tokenizer.json"), false)
            .map_err(|error| anyhow!("writing tokenizer.json: {error}"))?;
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": null,
            "eos_token": END,
            "pad_token": END,
            "unk_token": null,
            "add_bos_token": false,
            "add_eos_token": false,
            "clean_up_tokenization_spaces": false,
            "model_max_length": max_tokens,
            "chat_template": CHAT_TEMPLATE,
        });
        let path = dir.join("tokenizer_config.json");
        std::fs::write(&path, serde_json::to_string_pretty(&config)? + "\n")
            .with_context(|| format!("writing {}", path.display()))?;
        remove_stale_tokenizer_files(dir)
    }

    /// The text of `tokenizer.json`.
    pub fn json(&self) -> Result<String> {
        self.tokenizer
            .to_string(false)
            .map_err(|error| anyhow!("writing the tokenizer as JSON: {error}"))
    }

    /// The number of token ids.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_model().get_vocab_size()
    }

    /// The token ids of a text.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|error| anyhow!("tokenizing {text:?}: {error}"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids` without special tokens.
    pub fn text(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(|error| anyhow!("decoding {ids:?}: {error}"))
    }

    /// The token ids of a conversation in the chat format.
    pub fn encode(&self, conversation: &Conversation) -> Result<Encoded> {
        let mut encoded = Encoded { ids: vec![], is_answer: vec![] };
        if let Some(message) = conversation.system {
            encoded.push(&[Self::SYSTEM_ID], false);
            encoded.push(&self.ids(message)?, false);
            encoded.push(&[Self::END_ID], false);
        }
        for turn in &conversation.turns {
            encoded.push(&self.prompt(&turn.prompt)?, false);
            encoded.push(&self.ids(&turn.answer)?, true);
            encoded.push(&[Self::END_ID], true);
        }
        Ok(encoded)
    }

    /// The token ids of a user turn and the start of the assistant turn.
    pub fn prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        let mut ids = vec![Self::USER_ID];
        ids.extend(self.ids(prompt)?);
        ids.extend([Self::END_ID, Self::ASSISTANT_ID]);
        Ok(ids)
    }
}
