//! The tokenizer, chat template and generation config of a model folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use colm_checkpoint::json;
use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use crate::chat_template::{ChatTemplate, Conversation, RenderError};
use crate::continuing::continuing;
use crate::eos::eos_tokens;
use crate::error::{is_there, FolderError};
use crate::generation_config::{self, SamplingDefaults, GENERATION_CONFIG};
use crate::probe::{probe, shows_parts};
use crate::special_tokens::SpecialTokens;
use crate::token_bytes::{token_texts, TokenText, MOST_TEXT};
use crate::tokenizer::{self, TOKENIZER};

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
const OLD_CHAT_TEMPLATE: &str = "chat_template.json";
const MORE_CHAT_TEMPLATES: &str = "additional_chat_templates";

/// The most tokens of a vocabulary. The largest known have 260,000.
const MOST_TOKENS: usize = 4_000_000;

/// The names of the templates that conversations are rendered with. Others are neither checked nor used.
const USED_TEMPLATES: [&str; 2] = ["default", "tool_use"];

/// The tokenizer, the chat template and the generation config of a model folder.
#[derive(Clone, Debug)]
pub struct PromptFolder {
    /// The tokenizer, without truncation and padding.
    pub tokenizer: Tokenizer,
    /// The special tokens: `bos_token` and so on.
    pub special_tokens: SpecialTokens,
    /// The chat template. None if the folder has none.
    pub chat_template: Option<ChatTemplate>,
    /// Whether the chat template shows contents that are lists of parts.
    pub shows_parts: bool,
    /// The chat templates as they are written, by name.
    pub chat_template_sources: BTreeMap<String, String>,
    /// The tokens that end an answer.
    pub eos_tokens: Vec<u32>,
    /// The text of each token of the vocabulary.
    pub token_texts: Vec<TokenText>,
    /// Sampling parameters for what a request omits.
    pub sampling_defaults: SamplingDefaults,
}

/// Values of config.json that prompts depend on.
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
    /// The most bytes a token stands for: at least 1.
    pub fn longest_token(&self) -> usize {
        longest(&self.token_texts)
    }

    /// The tokenizer for text that continues other text. It adds no space before the first word.
    pub fn continuing_tokenizer(&self) -> Tokenizer {
        continuing(&self.tokenizer)
    }

    /// The text of `conversation`; None if the model has no chat template.
    ///
    /// As transformers renders it. If the template cannot render content parts, their texts are joined first.
    pub fn render(&self, mut conversation: Conversation) -> Option<Result<String, RenderError>> {
        let template = self.chat_template.as_ref()?;
        if !self.shows_parts {
            join_parts(&mut conversation);
        }
        Some(template.render(&conversation))
    }

    /// Reads `folder` as transformers does, and checks the chat template on a short conversation.
    pub fn read(folder: &Path, model: &ModelFacts<'_>) -> Result<Self, FolderError> {
        if model.vocab_size > MOST_TOKENS {
            let what = format!("{}: expected at most {MOST_TOKENS}", model.vocab_size);
            return Err(FolderError::field(&folder.join("config.json"), "vocab_size", what));
        }
        let config_path = folder.join(TOKENIZER_CONFIG);
        let config: Map<String, Value> = match is_there(&config_path) {
            true => json::read(&config_path)?,
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
        let token_texts = token_texts(&tokenizer, model.vocab_size).ok_or_else(|| {
            let what = format!("its tokens have more than {MOST_TEXT} bytes of text");
            FolderError::file(&folder.join(TOKENIZER), what)
        })?;
        let longest_prompt = model.longest.saturating_mul(longest(&token_texts));
        let templates = chat_templates(folder, &config, &config_path)?;
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

/// The length of the longest text, in bytes: at least 1.
fn longest(texts: &[TokenText]) -> usize {
    texts.iter().map(TokenText::len).max().unwrap_or(0).max(1)
}

/// Templates by name, each with the file that it is from.
type Templates = BTreeMap<String, (PathBuf, String)>;

/// The templates, compiled and tried; None if there are none. An error names the file of the template.
fn compile(
    templates: &Templates,
    config_path: &Path,
    special_tokens: BTreeMap<String, String>,
    longest_prompt: usize,
) -> Result<Option<ChatTemplate>, FolderError> {
    let Some((first, _)) = templates.values().next() else { return Ok(None) };
    let refused = |name: &str, what: String| {
        let path = templates.get(name).map_or(first, |(path, _)| path);
        match path == config_path {
            true => FolderError::field(path, "chat_template", what),
            false => FolderError::file(path, what),
        }
    };
    let used = templates.iter().filter(|(name, _)| USED_TEMPLATES.contains(&name.as_str()));
    let sources = used.map(|(name, (_, source))| (name.clone(), source.clone()));
    let template = ChatTemplate::named(sources.collect(), special_tokens, longest_prompt)
        .map_err(|error| refused(error.template(), error.to_string()))?;
    probe(&template).map_err(|(name, what)| refused(name, what))?;
    Ok(Some(template))
}

/// The templates of chat_template.jinja and additional_chat_templates, or of tokenizer_config.json, or of
/// chat_template.json.
fn chat_templates(
    folder: &Path,
    config: &Map<String, Value>,
    config_path: &Path,
) -> Result<Templates, FolderError> {
    let mut templates = Templates::new();
    let path = folder.join(CHAT_TEMPLATE);
    if is_there(&path) {
        templates.insert("default".into(), (path.clone(), json::read_text(&path)?));
    }
    for path in jinja_files(&folder.join(MORE_CHAT_TEMPLATES))? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let source = json::read_text(&path)?;
        templates.insert(name, (path, source));
    }
    if templates.is_empty() {
        templates = templates_in(config, config_path)?;
    }
    let path = folder.join(OLD_CHAT_TEMPLATE);
    if templates.is_empty() && is_there(&path) {
        templates = templates_in(&json::read(&path)?, &path)?;
    }
    Ok(templates)
}

/// The templates in a folder of templates, which need not be there.
fn jinja_files(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    if !is_there(folder) {
        return Ok(Vec::new());
    }
    let unreadable =
        |error: io::Error| FolderError::file(folder, format!("cannot read it: {error}"));
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        files.push(entry.map_err(unreadable)?.path());
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jinja"));
    files.sort();
    Ok(files)
}

/// The field `chat_template`: a template, or several with names.
fn templates_in(fields: &Map<String, Value>, path: &Path) -> Result<Templates, FolderError> {
    const FIELD: &str = "chat_template";
    let refused = |what: &str| FolderError::field(path, FIELD, what);
    let text = |value: &Value| value.as_str().map(str::to_string);
    let named: Option<Vec<(String, String)>> = match fields.get(FIELD) {
        None | Some(Value::Null) => return Ok(Templates::new()),
        Some(Value::String(source)) => Some(vec![("default".into(), source.clone())]),
        Some(Value::Object(named)) => {
            named.iter().map(|(name, source)| Some((name.clone(), text(source)?))).collect()
        }
        Some(Value::Array(list)) if !list.is_empty() => {
            list.iter().map(|item| Some((text(&item["name"])?, text(&item["template"])?))).collect()
        }
        Some(_) => None,
    };
    let expected = "expected a template, or a list of {\"name\", \"template\"}";
    let mut templates = Templates::new();
    for (name, source) in named.ok_or_else(|| refused(expected))? {
        if templates.insert(name.clone(), (path.into(), source)).is_some() {
            return Err(refused(&format!("two templates are called `{name}`")));
        }
    }
    Ok(templates)
}
