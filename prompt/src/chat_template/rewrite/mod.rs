//! Rewrites a chat template so that every result is checked while it renders.
//!
//! minijinja's fuel counts instructions, so it does not notice that one instruction can double a string. And
//! minijinja's operators differ from Python's in a few cases. So the template is parsed and written as an equivalent
//! one, in which every filter and call goes through the checks of [`super::budget`], operators are the filters of
//! [`super::operators`], and macros are those of [`super::macros`]. Text between tags becomes an expression, so that it
//! is counted too. Statements keep their line numbers, for error messages.

mod blocks;
mod expressions;
mod macros;
mod names;
mod operators;
mod statements;
mod writer;

use minijinja::machinery::{parse, WhitespaceConfig};
use minijinja::Error;

pub use names::*;
use writer::Writer;

/// `source` with every result checked. The error is one of syntax.
pub fn rewrite(source: &str) -> Result<String, Error> {
    // The settings of transformers.
    let whitespace =
        WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };
    let template = parse(source, "chat_template", Default::default(), whitespace)?;
    let mut writer =
        Writer { source, out: String::with_capacity(2 * source.len()), ..Writer::default() };
    writer.statement(&template)?;
    Ok(writer.out)
}
