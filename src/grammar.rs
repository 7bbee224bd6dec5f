//! Grammars that an answer must match. [`GrammarCompiler`](crate::host::grammar::GrammarCompiler) compiles them.

use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

pub use crate::host::grammar::LlguidanceGrammar;

/// A grammar that an answer must match.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Grammar {
    /// JSON that matches this schema.
    JsonSchema(Value),
    /// Any JSON object.
    JsonObject,
    /// A regular expression, which the whole answer must match.
    Regex(String),
    /// A grammar in llguidance's variant of Lark.
    Lark(String),
    /// An llguidance grammar: a list whose first grammar is the start. `max_tokens` and temperatures of rules are refused.
    Llguidance(Box<LlguidanceGrammar>),
}

/// Why a grammar is rejected.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrammarError {
    /// The grammar exceeds a limit.
    #[error("the grammar has {found} {what}: expected at most {limit}")]
    TooLarge {
        /// What the limit applies to.
        what: &'static str,
        /// The amount found, at least: counting stops above the limit.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Objects and arrays are nested too deeply.
    #[error("the schema has more than {limit} levels of nesting: expected at most {limit}")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// Compiling the grammar, or computing a token, takes too long.
    #[error("{what} takes more than {} ms: expected a simpler grammar", limit.as_millis())]
    TookTooLong {
        /// The step that takes too long.
        what: &'static str,
        /// The time limit.
        limit: Duration,
    },
    /// Other grammars are being compiled.
    #[error("two other grammars are being compiled; try again later")]
    Busy,
    /// The grammar has a syntax error, cannot be matched, or uses an unsupported feature.
    #[error("{0}")]
    Invalid(String),
}
