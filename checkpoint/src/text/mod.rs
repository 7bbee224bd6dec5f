//! Text from files, prepared for error messages.
//!
//! A damaged or hostile file may hold megabytes or terminal escapes where a word is expected. Every
//! message that quotes a file goes through [`abbreviate`].

mod abbreviate;
mod escape;

pub use abbreviate::abbreviate;
pub(crate) use abbreviate::abbreviate_list;
pub use escape::escape_control;
