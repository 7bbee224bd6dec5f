//! The chat templates of a model folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use colm_checkpoint::json;
use serde_json::{Map, Value};

use crate::chat_template::{try_render, ChatTemplate, TemplateError, DEFAULT};
use crate::error::{exists, FolderError};

const CHAT_TEMPLATE: &str = "chat_template.jinja";
const OLD_CHAT_TEMPLATE: &str = "chat_template.json";
const ADDITIONAL_CHAT_TEMPLATES: &str = "additional_chat_templates";

/// The names of the templates that conversations are rendered with. Others are not compiled.
const USED_TEMPLATES: [&str; 2] = [DEFAULT, "tool_use"];

/// The sources of templates by name, each with its file.
pub(super) type Templates = BTreeMap<String, (PathBuf, String)>;

/// Compiles the templates and renders short conversations with them. Returns None if there are none.
/// An error names the file of the template.
pub(super) fn compile(
    templates: &Templates,
    config_path: &Path,
    special_tokens: BTreeMap<String, String>,
    longest_prompt: usize,
) -> Result<Option<ChatTemplate>, FolderError> {
    let Some((first, _)) = templates.values().next() else { return Ok(None) };
    let error = |name: &str, what: String| {
        let path = templates.get(name).map_or(first, |(path, _)| path);
        if path == config_path {
            FolderError::field(path, "chat_template", what)
        } else {
            FolderError::file(path, what)
        }
    };
    if !templates.contains_key(DEFAULT) {
        let names = templates.keys().cloned().collect();
        return Err(error(DEFAULT, TemplateError::NoDefault(names).to_string()));
    }
    let used = templates.iter().filter(|(name, _)| USED_TEMPLATES.contains(&name.as_str()));
    let sources = used.map(|(name, (_, source))| (name.clone(), source.clone()));
    let template = ChatTemplate::named(sources.collect(), special_tokens, longest_prompt)
        .map_err(|cause| error(cause.template(), cause.to_string()))?;
    try_render(&template).map_err(|(name, what)| error(name, what))?;
    Ok(Some(template))
}

/// The templates of chat_template.jinja and additional_chat_templates; if there are none, those of
/// tokenizer_config.json; if there are none, those of chat_template.json.
pub(super) fn read_chat_templates(
    folder: &Path,
    config: &Map<String, Value>,
    config_path: &Path,
) -> Result<Templates, FolderError> {
    let mut templates = Templates::new();
    let path = folder.join(CHAT_TEMPLATE);
    if exists(&path) {
        templates.insert("default".into(), (path.clone(), json::read_text(&path)?));
    }
    for path in jinja_files(&folder.join(ADDITIONAL_CHAT_TEMPLATES))? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let source = json::read_text(&path)?;
        templates.insert(name, (path, source));
    }
    if templates.is_empty() {
        templates = templates_in(config, config_path)?;
    }
    let path = folder.join(OLD_CHAT_TEMPLATE);
    if templates.is_empty() && exists(&path) {
        templates = templates_in(&json::read(&path)?, &path)?;
    }
    Ok(templates)
}

/// The template files in `folder`, which need not exist.
fn jinja_files(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    if !exists(folder) {
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
    let error = |what: &str| FolderError::field(path, FIELD, what);
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
    for (name, source) in named.ok_or_else(|| error(expected))? {
        if templates.insert(name.clone(), (path.into(), source)).is_some() {
            return Err(error(&format!("two templates are called `{name}`")));
        }
    }
    Ok(templates)
}
