//! Parses tool calls in the text of an answer, in the formats of the Llama, Mistral and Qwen families.

mod format;
mod json;
mod parser;
mod parts;
#[cfg(test)]
mod tests;
mod value;

pub use format::MARKERS;
pub use json::ToolCall;
pub use parser::ToolParser;
pub use parts::Part;
