//! The tokenizer, chat template and generation config of a model folder.

use std::collections::BTreeMap;
use std::path::Path;

use colm_checkpoint::json;
use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use super::chat_templates::{compile, read_chat_templates};
use super::eos::eos_tokens;
use super::generation_config::{read_generation_config, SamplingDefaults, GENERATION_CONFIG};
use crate::chat_template::{shows_parts, ChatTemplate, Conversation, RenderError};
use crate::error::{exists, FolderError};
use crate::tokenizer::{
    self, continuation_tokenizer, token_texts, SpecialTokens, TokenText, MAX_TEXT, TOKENIZER,
};

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// The most tokens of a vocabulary. The largest known vocabularies have 260,000.
const MAX_TOKENS: usize = 4_000_000;

/// The tokenizer, the chat template and the generation config of a model folder.
#[derive(Clone, Debug)]
pub struct PromptFolder {
    /// The tokenizer, without truncation and padding.
    pub tokenizer: Tokenizer,
    /// The special tokens: `bos_token` and so on.
    pub special_tokens: SpecialTokens,
    /// The chat template. None if the folder has none.
    pub chat_template: Option<ChatTemplate>,
    /// Whether the chat template shows contents that are lists of parts. See [`Self::render`].
    pub shows_parts: bool,
    /// The sources of all chat templates, by name.
    pub chat_template_sources: BTreeMap<String, String>,
    /// The ids of the tokens that end an answer, sorted.
    pub eos_tokens: Vec<u32>,
    /// The text of each token, by id: `vocab_size` entries.
    pub token_texts: Vec<TokenText>,
    /// Sampling parameters for what a request omits.
    pub sampling_defaults: SamplingDefaults,
}

/// What prompts depend on in config.json.
#[derive(Clone, Debug)]
pub struct ModelFacts<'a> {
    /// The number of tokens in the vocabulary of the model.
    pub vocab_size: usize,
    /// The longest sequence, in tokens.
    pub longest: usize,
    /// Other fields of config.json. `eos_token_id` is used.
    pub config: &'a Map<String, Value>,
}

impl PromptFolder {
    /// The length of the longest text of a token, in bytes: at least 1.
    pub fn longest_token(&self) -> usize {
        longest(&self.token_texts)
    }

    /// The tokenizer for text that continues other text. It does not add a space before the first word.
    pub fn continuing_tokenizer(&self) -> Tokenizer {
        continuation_tokenizer(&self.tokenizer)
    }

    /// The prompt of `conversation`, as transformers renders it; None if the model has no chat template.
    /// If the template does not show content parts, their texts are joined first.
    ///
    /// # Errors
    /// Those of [`ChatTemplate::render`].
    pub fn render(&self, mut conversation: Conversation) -> Option<Result<String, RenderError>> {
        let template = self.chat_template.as_ref()?;
        if !self.shows_parts {
            join_parts(&mut conversation);
        }
        Some(template.render(&conversation))
    }

    /// Reads `folder` as transformers does, and renders short conversations to check the chat template.
    ///
    /// # Errors
    /// If a file is invalid or exceeds a limit, if the tokenizer is missing, or if the chat template
    /// cannot be compiled or rendered. `docs/prompts.md` describes the rules.
    pub fn read(folder: &Path, model: &ModelFacts<'_>) -> Result<Self, FolderError> {
        if model.vocab_size > MAX_TOKENS {
            let what = format!("{}: expected at most {MAX_TOKENS}", model.vocab_size);
            return Err(FolderError::field(&folder.join("config.json"), "vocab_size", what));
        }
        let config_path = folder.join(TOKENIZER_CONFIG);
        let config: Map<String, Value> =
            if exists(&config_path) { json::read(&config_path)? } else { Map::new() };
        let (tokenizer, special_tokens) = tokenizer::read(folder, &config, &config_path)?;
        let generation_config = read_generation_config(folder)?;
        let sampling_defaults =
            SamplingDefaults::parse(&generation_config, &folder.join(GENERATION_CONFIG))?;
        let eos_tokens = eos_tokens(
            folder,
            &tokenizer,
            &special_tokens,
            &generation_config,
            model.config,
            model.vocab_size,
        )?;
        let token_texts = token_texts(&tokenizer, model.vocab_size).ok_or_else(|| {
            let what = format!("its tokens have more than {MAX_TEXT} bytes of text");
            FolderError::file(&folder.join(TOKENIZER), what)
        })?;
        let longest_prompt = model.longest.saturating_mul(longest(&token_texts));
        let templates = read_chat_templates(folder, &config, &config_path)?;
        let special = special_tokens.texts();
        let chat_template = compile(&templates, &config_path, special, longest_prompt)?;
        Ok(Self {
            tokenizer,
            special_tokens,
            shows_parts: chat_template.as_ref().is_some_and(shows_parts),
            chat_template,
            chat_template_sources: templates
                .into_iter()
                .map(|(name, (_, source))| (name, source))
                .collect(),
            eos_tokens,
            token_texts,
            sampling_defaults,
        })
    }
}

/// Replaces contents that are lists of text parts by their texts, joined with newlines.
fn join_parts(conversation: &mut Conversation) {
    for content in conversation.messages.iter_mut().filter_map(|message| message.get_mut("content"))
    {
        let parts = content.as_array();
        let texts =
            parts.and_then(|parts| parts.iter().map(|part| part["text"].as_str()).collect());
        if let Some(texts) = texts.map(|texts: Vec<&str>| texts.join("\n")) {
            *content = texts.into();
        }
    }
}

/// The length of the longest text, in bytes: at least 1.
fn longest(texts: &[TokenText]) -> usize {
    texts.iter().map(TokenText::len).max().unwrap_or(0).max(1)
}
