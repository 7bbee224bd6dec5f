//! Converts the bytes of tokens to the text of an answer: UTF-8 decoding, stop strings and tool calls. Independent of
//! the engine.

mod answer_text;
mod decoder;
mod stop;
mod tool_calls;

pub use answer_text::{AnswerText, TextPiece};
pub use tool_calls::{Part, ToolCall, ToolParser, MARKERS};
