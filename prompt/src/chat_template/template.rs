//! A compiled chat template.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::thread;

use chrono::{DateTime, Local};
use colm_checkpoint::panics::catch;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde_json::{Map, Value as Json};

use super::budget::{Output, TextLimit, TooLong, TooMuch, MAX_SOURCE};
use super::conversation::Conversation;
use super::environment::{environment, Raised};
use super::errors::{RenderError, TemplateError, DEFAULT};
use super::rewrite::rewrite;
use super::strftime;
use super::tags::known_tags;

/// The chat templates of a model.
#[derive(Clone)]
pub struct ChatTemplate {
    templates: Arc<Environment<'static>>,
    special_tokens: Arc<BTreeMap<String, String>>,
    has_tool_use: bool,
    limit: TextLimit,
}

const TOOL_USE: &str = "tool_use";

impl ChatTemplate {
    /// Compiles the template `source`. Rendered prompts may have at most `longest` bytes (or 64 KiB, if
    /// that is more). `special_tokens` are variables of the template: `bos_token` and so on.
    ///
    /// # Errors
    /// If the source is not a valid template or is too long.
    pub fn new(
        source: &str,
        special_tokens: BTreeMap<String, String>,
        longest: usize,
    ) -> Result<Self, TemplateError> {
        Self::named([(DEFAULT.to_string(), source.to_string())].into(), special_tokens, longest)
    }

    /// As [`Self::new`], with several templates by name: `default`, and `tool_use` for conversations with tools.
    ///
    /// # Errors
    /// As [`Self::new`], and if there is no template `default`.
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

    /// Whether there is a separate template for conversations with tools.
    pub fn has_tool_use(&self) -> bool {
        self.has_tool_use
    }

    /// The prompt of `conversation`.
    ///
    /// # Errors
    /// If the conversation has no messages, if the template raises an error or fails, if the prompt is too long, or if
    /// rendering exceeds a limit of time or memory.
    pub fn render(&self, conversation: &Conversation) -> Result<String, RenderError> {
        self.render_at(conversation, Local::now())
    }

    /// As [`Self::render`], with `now` as the current time, which the template may show.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_at(
        &self,
        conversation: &Conversation,
        now: DateTime<Local>,
    ) -> Result<String, RenderError> {
        if conversation.messages.is_empty() {
            return Err(RenderError::Failed(
                "the conversation has no messages; expected at least one".into(),
            ));
        }
        let tool_use = conversation.tools.is_some() && self.has_tool_use;
        let name = if tool_use { TOOL_USE } else { DEFAULT };
        let template = self.templates.get_template(name).map_err(render_error)?;
        let variables = self.variables(conversation, now);
        let mut output = Output::new(self.limit);
        // minijinja can panic while it renders a template that it compiled.
        let rendered = catch(|| template.render_captured_to(variables, &mut output).map(drop));
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

/// The field names for the reasoning of a message. Templates read the first two.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A message as templates see it: without fields that are null, and with its reasoning under the two names
/// that templates read.
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

/// Compiles the templates `sources`.
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

/// Runs `work` on a large stack. Parsing and compiling take a stack frame per level of nesting, and a long
/// sum has a level per term. Unused stack takes no memory.
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

/// `source` rewritten for minijinja, with every result checked.
fn checked_source(source: &str) -> Result<String, Error> {
    if source.len() > MAX_SOURCE {
        let message = format!("it has {} bytes; expected at most {MAX_SOURCE}", source.len());
        return Err(Error::new(ErrorKind::SyntaxError, message));
    }
    // Jinja normalizes newlines to `\n`.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    rewrite(&known_tags(&source)?)
}

fn render_error(error: Error) -> RenderError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return RenderError::Raised(message.clone());
        }
        if cause.is::<TooLong>() {
            return RenderError::TooLong(message(&error));
        }
        if cause.is::<TooMuch>() {
            return RenderError::LimitExceeded(message(&error));
        }
        source = cause.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => {
            RenderError::LimitExceeded("the template takes too many steps".into())
        }
        // In macros and recursive loops.
        _ if error.detail().is_some_and(|detail| detail.starts_with("recursion limit")) => {
            RenderError::LimitExceeded(message(&error))
        }
        _ => RenderError::Failed(message(&error)),
    }
}

/// The message of an error, with the line.
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
