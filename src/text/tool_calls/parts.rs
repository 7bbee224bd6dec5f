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

/// The parts that have not been returned. Whitespace next to a call is dropped, except between two texts: they may be shown
/// as one, without the calls.
#[derive(Debug, Default)]
pub(super) struct Parts {
    parts: Vec<Part>,
    /// The whitespace after the last text. It is dropped if a call follows.
    whitespace: String,
    /// Whether there has been text.
    has_text: bool,
    /// Whether there has been only whitespace since the last call.
    after_call: bool,
    /// The whitespace between the last text and the next, if calls are between them: that before the first call, or else
    /// that after it.
    separator: String,
    /// Whether the separator is complete.
    is_separated: bool,
}

impl Parts {
    /// Adds text outside calls.
    pub(super) fn push_text(&mut self, text: &str) {
        let text = if self.after_call { self.trimmed(text) } else { text };
        let (text, whitespace) = text.split_at(text.trim_end().len());
        if !text.is_empty() {
            (self.after_call, self.has_text, self.is_separated) = (false, true, false);
            let before =
                std::mem::take(&mut self.separator) + &std::mem::take(&mut self.whitespace);
            self.append(&before);
            self.append(text);
        }
        self.whitespace += whitespace;
    }

    /// `text` after a call, without the whitespace at its start.
    fn trimmed<'a>(&mut self, text: &'a str) -> &'a str {
        let trimmed = text.trim_start();
        self.separate(&text[..text.len() - trimmed.len()]);
        trimmed
    }

    /// Adds `whitespace` to the separator, if there is text before it and the separator is not complete.
    fn separate(&mut self, whitespace: &str) {
        if self.has_text && !self.is_separated {
            self.separator.push_str(whitespace);
        }
    }

    /// Adds calls, and drops the whitespace before them.
    pub(super) fn push_calls(&mut self, calls: impl IntoIterator<Item = ToolCall>) {
        let whitespace = std::mem::take(&mut self.whitespace);
        self.separate(&whitespace);
        self.is_separated = !self.separator.is_empty();
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
