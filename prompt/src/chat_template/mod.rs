//! Chat templates: conversations as the text that the model was trained on.
//!
//! Rendered as transformers' `apply_chat_template` does (Jinja with `trim_blocks`, `lstrip_blocks`, loop controls and
//! the tags for generation), by minijinja. Templates are untrusted, so time, steps and
//! memory are limited.

mod budget;
mod environment;
mod filters;
mod format;
mod tags;

mod is_tests;
mod json;
mod macros;
mod methods;
mod operators;
mod python;
mod rewrite;
mod spaces;
mod strftime;
mod strings;
mod tuple;
mod views;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::thread;

use chrono::{DateTime, Local};
use minijinja::{Environment, Error, ErrorKind, Value};
use serde_json::{Map, Value as Json};
use thiserror::Error;

use crate::panics::catch;
use budget::{Output, TextLimit, TooMuch, MAX_SOURCE};
use environment::{environment, Raised};
use rewrite::rewrite;
use tags::known_tags;

/// A conversation with all that a template can show.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    /// The turns, each with `role`, `content` and whatever else the template knows. Fields that are null are left
    /// out, as in transformers.
    pub messages: Vec<Map<String, Json>>,
    /// Functions that the model may call, as the OpenAI API writes them.
    pub tools: Option<Vec<Json>>,
    /// Further variables, such as `enable_thinking`. They win over the special tokens.
    pub variables: Map<String, Json>,
    /// Whether to append the header of the model's turn.
    pub add_generation_prompt: bool,
}

/// Why a template cannot be used.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// The source of a template is not valid.
    #[error("{what}")]
    Syntax {
        /// Its name.
        name: String,
        /// What is wrong, and in which line.
        what: String,
    },
    /// There is no template called `default`.
    #[error("there is no template called `default`, only {}", .0.join(", "))]
    NoDefault(Vec<String>),
}

impl TemplateError {
    /// The name of the template.
    pub fn template(&self) -> &str {
        match self {
            Self::Syntax { name, .. } => name,
            Self::NoDefault(_) => DEFAULT,
        }
    }
}

/// Why a conversation has no prompt.
#[derive(Debug, Error)]
pub enum RenderError {
    /// The template raised an error itself.
    #[error("{0}")]
    Raised(String),
    /// The template does not fit the conversation.
    #[error("{0}")]
    Failed(String),
    /// The rendering takes too long, or makes too much.
    #[error("{0}")]
    TooMuch(String),
}

/// The chat templates of a model.
#[derive(Clone)]
pub struct ChatTemplate {
    templates: Arc<Environment<'static>>,
    special_tokens: Arc<BTreeMap<String, String>>,
    has_tool_use: bool,
    limit: TextLimit,
}

const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";

impl ChatTemplate {
    /// The template `source` of a model whose prompts have at most `longest` bytes. `special_tokens` are variables
    /// of the template: `bos_token` and so on.
    pub fn new(
        source: &str,
        special_tokens: BTreeMap<String, String>,
        longest: usize,
    ) -> Result<Self, TemplateError> {
        Self::named([(DEFAULT.to_string(), source.to_string())].into(), special_tokens, longest)
    }

    /// Templates by their names: `default`, and `tool_use` for conversations with tools.
    pub fn named(
        sources: BTreeMap<String, String>,
        special_tokens: BTreeMap<String, String>,
        longest: usize,
    ) -> Result<Self, TemplateError> {
        if !sources.contains_key(DEFAULT) {
            return Err(TemplateError::NoDefault(sources.into_keys().collect()));
        }
        let has_tool_use = sources.contains_key(TOOL_USE);
        let limit = TextLimit::new(longest);
        let templates = on_a_large_stack(|| compiled(sources, limit))?;
        let (templates, special_tokens) = (Arc::new(templates), Arc::new(special_tokens));
        Ok(Self { templates, special_tokens, has_tool_use, limit })
    }

    /// Whether there is a template of its own for conversations with tools.
    pub fn has_tool_use(&self) -> bool {
        self.has_tool_use
    }

    /// The prompt of `conversation`.
    pub fn render(&self, conversation: &Conversation) -> Result<String, RenderError> {
        self.render_at(conversation, Local::now())
    }

    /// As [`Self::render`], at a time that the template may show.
    pub fn render_at(
        &self,
        conversation: &Conversation,
        now: DateTime<Local>,
    ) -> Result<String, RenderError> {
        if conversation.messages.is_empty() {
            return Err(RenderError::Failed("a conversation has at least one message".into()));
        }
        let tool_use = conversation.tools.is_some() && self.has_tool_use;
        let name = if tool_use { TOOL_USE } else { DEFAULT };
        let template = self.templates.get_template(name).map_err(render_error)?;
        let variables = self.variables(conversation, now);
        let mut output = Output::new(self.limit);
        // minijinja can panic while it renders a template that it compiled.
        let rendered =
            crate::panics::catch(|| template.render_captured_to(variables, &mut output).map(drop));
        let rendered = rendered.map_err(RenderError::Failed)?;
        output.finish(rendered).map_err(render_error)
    }

    fn variables(
        &self,
        conversation: &Conversation,
        now: DateTime<Local>,
    ) -> BTreeMap<String, Value> {
        let special = self.special_tokens.iter();
        let special = special.map(|(name, token)| (name.clone(), Value::from(token)));
        let own = conversation.variables.iter();
        let own = own.map(|(name, value)| (name.clone(), Value::from_serialize(value)));
        let messages: Vec<Value> = conversation.messages.iter().map(template_message).collect();
        let ours = [
            ("messages", Value::from(messages)),
            ("tools", Value::from_serialize(&conversation.tools)),
            ("add_generation_prompt", Value::from(conversation.add_generation_prompt)),
            ("strftime_now", strftime::at(now)),
        ];
        let ours = ours.into_iter().map(|(name, value)| (name.to_string(), value));
        let documents = [("documents".to_string(), Value::from(()))];
        documents.into_iter().chain(special).chain(own).chain(ours).collect()
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("special_tokens", &self.special_tokens).finish()
    }
}

/// Names under which a message's reasoning comes; the first is the one that templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A message as templates see it: without fields that are null, its reasoning under the two names that templates read.
fn template_message(message: &Map<String, Json>) -> Value {
    let mut fields = message.clone();
    fields.retain(|_, value| !value.is_null());
    let Some(reasoning) = REASONING.iter().find_map(|name| fields.get(*name)).cloned() else {
        return Value::from_serialize(&fields);
    };
    let mut shown = Map::from_iter([(REASONING[1].to_string(), reasoning.clone())]);
    shown.extend(fields);
    shown.insert(REASONING[0].into(), reasoning);
    Value::from_serialize(&shown)
}

/// An environment with the templates `sources`.
fn compiled(
    sources: BTreeMap<String, String>,
    limit: TextLimit,
) -> Result<Environment<'static>, TemplateError> {
    let mut templates = environment(limit);
    for (name, source) in sources {
        let added = checked_source(&source)
            .and_then(|checked| templates.add_template_owned(name.clone(), checked));
        let what =
            |error: Error| TemplateError::Syntax { name: name.clone(), what: message(&error) };
        added.map_err(what)?;
    }
    Ok(templates)
}

/// Parsing and compiling take a stack frame per level of a template, and a long sum has as many levels as terms.
/// The unused part of the stack takes no memory.
fn on_a_large_stack<T: Send>(
    work: impl FnOnce() -> Result<T, TemplateError> + Send,
) -> Result<T, TemplateError> {
    const STACK: usize = 512 << 20;
    let failed = |why: String| TemplateError::Syntax {
        name: DEFAULT.into(),
        what: format!("it cannot be compiled: {why}"),
    };
    thread::scope(|scope| {
        let compiling =
            thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || catch(work));
        let compiled = compiling.map_err(|error| failed(error.to_string()))?.join();
        compiled.unwrap_or_else(|_| Err("minijinja has panicked".into())).map_err(failed)?
    })
}

/// `source` for minijinja, with every result checked.
fn checked_source(source: &str) -> Result<String, Error> {
    if source.len() > MAX_SOURCE {
        let message = format!("it has {} bytes; expected at most {MAX_SOURCE}", source.len());
        return Err(Error::new(ErrorKind::SyntaxError, message));
    }
    // Jinja reads every end of a line as `\n`.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    rewrite(&known_tags(&source)?)
}

fn render_error(error: Error) -> RenderError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return RenderError::Raised(message.clone());
        }
        if cause.is::<TooMuch>() {
            return RenderError::TooMuch(message(&error));
        }
        source = cause.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => RenderError::TooMuch("the template takes too many steps".into()),
        // Of macros and recursive loops.
        _ if error.detail().is_some_and(|detail| detail.starts_with("recursion limit")) => {
            RenderError::TooMuch(message(&error))
        }
        _ => RenderError::Failed(message(&error)),
    }
}

/// What is wrong, and in which line.
fn message(error: &Error) -> String {
    let what = match error.detail() {
        Some(detail) => detail.to_string(),
        None => error.kind().to_string(),
    };
    match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}
