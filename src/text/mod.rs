//! From tokens to the text of an answer: bytes to characters, stop strings, tool calls. Knows no engine.

mod answer_text;
mod decoder;
mod stop;
mod tool_calls;
mod tool_formats;

pub use answer_text::{AnswerText, TextPiece};
pub use tool_calls::{Part, ToolCall, ToolParser, MARKERS};
