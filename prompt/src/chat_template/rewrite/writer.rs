//! The writer of the rewritten template.

use minijinja::machinery::ast::{List, Spanned};
use minijinja::Error;

/// The special variables that a macro reads. It accepts the corresponding arguments only if it does.
#[derive(Clone, Copy, Default)]
pub(super) struct Special {
    pub varargs: bool,
    pub kwargs: bool,
    pub caller: bool,
}

impl Special {
    pub fn note(&mut self, name: &str) {
        match name {
            "varargs" => self.varargs = true,
            "kwargs" => self.kwargs = true,
            "caller" => self.caller = true,
            _ => {}
        }
    }
}

#[derive(Default)]
pub(super) struct Writer<'a> {
    pub source: &'a str,
    pub out: String,
    /// The number of newlines in `out`.
    pub lines: u16,
    /// The number of generated variables.
    pub variables: usize,
    /// Whether the code is inside a loop that `break` can leave.
    pub in_loop: bool,
    /// The variables that record how an iteration ends, one for each block inside the current loop that
    /// minijinja would not close.
    pub blocks: Vec<String>,
    /// The special variables that the current macro reads.
    pub special: Special,
}

pub(super) type Written = Result<(), Error>;

impl Writer<'_> {
    pub fn push(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// Opens a tag on `line`.
    pub fn open(&mut self, tag: &str, line: u16) {
        self.push(tag);
        while self.lines + 1 < line {
            self.out.push('\n');
            self.lines += 1;
        }
    }

    /// Whether a list was written in parentheses, or is several values of a `set`.
    pub fn is_tuple(&self, list: &Spanned<List<'_>>) -> bool {
        let start = list.span().start_offset as usize;
        let bracket = self.source.as_bytes().get(start) == Some(&b'[');
        // The span of values without parentheses begins after the first value.
        !bracket
            || list.items.first().is_some_and(|item| (item.span().start_offset as usize) < start)
    }

    /// A variable, possibly a special one of macros.
    pub fn variable(&mut self, name: &str) {
        self.special.note(name);
        self.push(name);
    }

    /// A new variable name, which the template does not use.
    pub fn generated_variable(&mut self, what: &str) -> String {
        self.variables += 1;
        format!("{what}_{}__", self.variables)
    }

    pub fn filtered_by(&mut self, filter: &str) {
        self.push("|");
        self.push(filter);
    }

    pub fn separate(&mut self, index: usize) {
        if index > 0 {
            self.push(",");
        }
    }

    /// A string literal, on one line.
    pub fn string(&mut self, text: &str) {
        self.push("\"");
        for c in text.chars() {
            match c {
                '"' => self.push("\\\""),
                '\\' => self.push("\\\\"),
                '\n' => self.push("\\n"),
                '\r' => self.push("\\r"),
                c => self.out.push(c),
            }
        }
        self.push("\"");
    }
}
