//! Errors of chat templates.

use thiserror::Error;

/// The name of the template for conversations.
pub(crate) const DEFAULT: &str = "default";

/// Why a template cannot be compiled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The source of a template is not valid.
    #[error("{what}")]
    Syntax {
        /// The name of the template.
        name: String,
        /// What is wrong, with the line.
        what: String,
    },
    /// There is no template named `default`.
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

/// Why a conversation cannot be rendered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RenderError {
    /// The template raised an error itself.
    #[error("{0}")]
    Raised(String),
    /// The template fails on this conversation, for example with a type error.
    #[error("{0}")]
    Failed(String),
    /// The prompt, or a text that the template makes on the way, is longer than the longest prompt.
    #[error("{0}")]
    TooLong(String),
    /// The rendering exceeds a limit of time or memory.
    #[error("{0}")]
    LimitExceeded(String),
}
