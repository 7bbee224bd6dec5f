//! What a model folder says of its prompts and answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use colm_checkpoint::json_file;
use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use crate::chat_template::{ChatTemplate, Conversation, RenderError};
use crate::continuing::continuing;
use crate::eos::eos_tokens;
use crate::error::FolderError;
use crate::generation_config::{self, SamplingDefaults, GENERATION_CONFIG};
use crate::probe::{probe, shows_parts};
use crate::special_tokens::SpecialTokens;
use crate::token_bytes::{token_texts, TokenText};
use crate::tokenizer;

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
const OLD_CHAT_TEMPLATE: &str = "chat_template.json";
const MORE_CHAT_TEMPLATES: &str = "additional_chat_templates";

/// A chat template's prompt has at least as many bytes for each token as a token of so many bytes needs.
const LEAST_TOKEN: usize = 1;

/// The tokenizer, the chat template and the generation config of a model folder.
#[derive(Clone, Debug)]
pub struct PromptFolder {
    /// Texts to tokens. It neither truncates nor pads.
    pub tokenizer: Tokenizer,
    /// The tokens with a meaning: `bos_token` and so on.
    pub special_tokens: SpecialTokens,
    /// Conversations to texts. None: the model has no conversations.
    pub chat_template: Option<ChatTemplate>,
    /// Whether the chat template shows contents that are lists of parts.
    pub shows_parts: bool,
    /// The chat templates as they are written, by name.
    pub chat_template_sources: BTreeMap<String, String>,
    /// The tokens that end an answer.
    pub eos_tokens: Vec<u32>,
    /// What each token of the vocabulary stands for.
    pub token_texts: Vec<TokenText>,
    /// How tokens are chosen where a request does not say it.
    pub sampling_defaults: SamplingDefaults,
}

/// What config.json says that the prompts depend on.
#[derive(Clone, Debug)]
pub struct ModelFacts<'a> {
    /// The number of tokens that the model knows.
    pub vocab_size: usize,
    /// The longest sequence, in tokens.
    pub longest: usize,
    /// Fields of config.json beside those of the model's shape: `eos_token_id` is one.
    pub config: &'a Map<String, Value>,
}

impl PromptFolder {
    /// The tokenizer for text that goes on from other text: without the space before the first word.
    pub fn continuing_tokenizer(&self) -> Tokenizer {
        continuing(&self.tokenizer)
    }

    /// The text of `conversation`; None if the model has no chat template.
    ///
    /// As transformers renders it. In addition, a template that knows only texts gets the texts of parts.
    pub fn render(&self, mut conversation: Conversation) -> Option<Result<String, RenderError>> {
        let template = self.chat_template.as_ref()?;
        if !self.shows_parts {
            join_parts(&mut conversation);
        }
        Some(template.render(&conversation))
    }

    /// Reads `folder` as transformers does, and renders a short conversation to see that its template works.
    pub fn read(folder: &Path, model: &ModelFacts<'_>) -> Result<Self, FolderError> {
        let config_path = folder.join(TOKENIZER_CONFIG);
        let config: Map<String, Value> = match config_path.exists() {
            true => json_file::read(&config_path)?,
            false => Map::new(),
        };
        let (tokenizer, special_tokens) = tokenizer::read(folder, &config, &config_path)?;
        let generation_config = generation_config::read(folder)?;
        let sampling_defaults =
            SamplingDefaults::of(&generation_config, &folder.join(GENERATION_CONFIG))?;
        let eos_tokens = eos_tokens(
            folder,
            &tokenizer,
            &special_tokens,
            &generation_config,
            model.config,
            model.vocab_size,
        )?;
        let token_texts = token_texts(&tokenizer, model.vocab_size);
        let longest_token = token_texts.iter().map(text_len).max().unwrap_or(0).max(LEAST_TOKEN);
        let longest_prompt = model.longest.saturating_mul(longest_token);
        let (path, mut sources) =
            chat_template_sources(folder, &config, &config_path)?.unwrap_or_default();
        sources.values_mut().for_each(unify_newlines);
        let chat_template = match sources.is_empty() {
            true => None,
            false => {
                let special = special_tokens.texts();
                let template = ChatTemplate::named(sources.clone(), special, longest_prompt);
                let refused = |what: String| match path == config_path {
                    true => FolderError::field(&path, "chat_template", what),
                    false => FolderError::file(&path, what),
                };
                let template = template.map_err(|error| refused(error.to_string()))?;
                probe(&template).map_err(refused)?;
                Some(template)
            }
        };
        Ok(Self {
            tokenizer,
            special_tokens,
            shows_parts: chat_template.as_ref().is_some_and(shows_parts),
            chat_template,
            chat_template_sources: sources,
            eos_tokens,
            token_texts,
            sampling_defaults,
        })
    }
}

/// Jinja reads every end of line as `\n`.
fn unify_newlines(source: &mut String) {
    if source.contains('\r') {
        *source = source.replace("\r\n", "\n").replace('\r', "\n");
    }
}

/// Replaces contents that are lists of texts by the texts, joined by newlines.
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

fn text_len(text: &TokenText) -> usize {
    match text {
        TokenText::Bytes(bytes) => bytes.len(),
        TokenText::Special(name) => name.len(),
        TokenText::None => 0,
    }
}

type Sources = (PathBuf, BTreeMap<String, String>);

/// Templates by name, and the file that they are from: chat_template.jinja with additional_chat_templates, or
/// tokenizer_config.json, or chat_template.json.
fn chat_template_sources(
    folder: &Path,
    config: &Map<String, Value>,
    config_path: &Path,
) -> Result<Option<Sources>, FolderError> {
    let mut sources = BTreeMap::new();
    let path = folder.join(CHAT_TEMPLATE);
    if path.exists() {
        sources.insert("default".to_string(), json_file::read_text(&path)?);
    }
    for path in jinja_files(&folder.join(MORE_CHAT_TEMPLATES)) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        sources.insert(name, json_file::read_text(&path)?);
    }
    if !sources.is_empty() {
        return Ok(Some((path, sources)));
    }
    if let Some(sources) = sources_in(config, config_path)? {
        return Ok(Some((config_path.to_path_buf(), sources)));
    }
    let path = folder.join(OLD_CHAT_TEMPLATE);
    if path.exists() {
        let fields: Map<String, Value> = json_file::read(&path)?;
        return Ok(sources_in(&fields, &path)?.map(|sources| (path, sources)));
    }
    Ok(None)
}

fn jinja_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jinja"));
    files.sort();
    files
}

/// The field `chat_template`: a template, or a list of them with names.
fn sources_in(
    fields: &Map<String, Value>,
    path: &Path,
) -> Result<Option<BTreeMap<String, String>>, FolderError> {
    const FIELD: &str = "chat_template";
    let refused = || {
        FolderError::field(path, FIELD, "expected a template or a list of {\"name\", \"template\"}")
    };
    let text = |value: &Value| value.as_str().map(str::to_string);
    match fields.get(FIELD) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(source)) => Ok(Some([("default".into(), source.clone())].into())),
        Some(Value::Object(named)) => {
            let named = named.iter().map(|(name, source)| Some((name.clone(), text(source)?)));
            named.collect::<Option<_>>().map(Some).ok_or_else(refused)
        }
        Some(Value::Array(list)) if !list.is_empty() => {
            let named =
                list.iter().map(|item| Some((text(&item["name"])?, text(&item["template"])?)));
            named.collect::<Option<_>>().map(Some).ok_or_else(refused)
        }
        Some(_) => Err(refused()),
    }
}
