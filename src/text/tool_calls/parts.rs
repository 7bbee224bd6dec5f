//! The parts of an answer: text and tool calls.

use super::json::ToolCall;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text outside calls.
    Text(String),
    /// A tool call.
    Call(ToolCall),
}

/// The parts that have not been returned. Whitespace next to a call is dropped.
#[derive(Debug, Default)]
pub(super) struct Parts {
    parts: Vec<Part>,
    /// The whitespace after the last text. It is dropped if a call follows.
    whitespace: String,
    /// Whether there has been only whitespace since the last call.
    after_call: bool,
}

impl Parts {
    /// Adds text outside calls.
    pub(super) fn push_text(&mut self, text: &str) {
        let text = if self.after_call { text.trim_start() } else { text };
        let (text, whitespace) = text.split_at(text.trim_end().len());
        if !text.is_empty() {
            self.after_call = false;
            let before = std::mem::take(&mut self.whitespace);
            self.append(&before);
            self.append(text);
        }
        self.whitespace += whitespace;
    }

    /// Adds calls, and drops the whitespace before them.
    pub(super) fn push_calls(&mut self, calls: impl IntoIterator<Item = ToolCall>) {
        self.whitespace.clear();
        self.after_call = true;
        self.parts.extend(calls.into_iter().map(Part::Call));
    }

    /// Ends the answer: its whitespace at the end is text.
    pub(super) fn finish(&mut self) {
        let whitespace = std::mem::take(&mut self.whitespace);
        self.append(&whitespace);
    }

    /// The parts since the last call of this method.
    pub(super) fn take(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.parts)
    }

    fn append(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(last)) => last.push_str(text),
            _ => self.parts.push(Part::Text(text.into())),
        }
    }
}
