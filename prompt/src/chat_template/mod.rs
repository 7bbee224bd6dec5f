//! Chat templates: conversations as the text that the model was trained on.
//!
//! A template renders as in the `apply_chat_template` of transformers (Jinja with `trim_blocks`,
//! `lstrip_blocks`, loop controls and the `generation` tags). minijinja runs it. Where minijinja
//! differs from Jinja or Python, the source is rewritten before it is compiled:
//!
//! 1. [`tags`] and [`literals`] change the source text to what minijinja can parse,
//! 2. [`rewrite`] parses it and writes an equivalent template in which [`operators`], [`methods`] and
//!    [`macros`] are calls of functions with Python's behavior, and every result is checked,
//! 3. [`environment`] provides these functions, and [`filters`] and tests with Jinja's behavior.
//!
//! Templates are untrusted, so [`budget`] limits time, steps and memory.

mod budget;
mod conversation;
mod environment;
mod errors;
mod filters;
mod format;
mod is_tests;
mod json;
mod literals;
mod macros;
mod map_items;
mod methods;
mod operators;
mod padding;
mod python;
mod rewrite;
mod strftime;
mod tags;
mod template;
mod trial;
mod tuple;
mod views;
mod whitespace;

pub use conversation::Conversation;
pub(crate) use errors::DEFAULT;
pub use errors::{RenderError, TemplateError};
pub use template::ChatTemplate;
pub(crate) use trial::{shows_parts, try_render};
