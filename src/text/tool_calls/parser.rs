//! Finds tool calls in streamed text.

use super::format::{Format, HERMES_END, MISTRAL, MISTRAL_ARGUMENTS, OPENING};
use super::json::{calls, object, ToolCall};
use super::parts::{Part, Parts};
use super::value::{Progress, Value};

/// Finds tool calls in streamed text.
///
/// Text that may belong to a call is held back until this is known. Text that turns out not to be a call is returned
/// unchanged. Whitespace next to a call is dropped.
#[derive(Debug)]
pub struct ToolParser {
    /// The names of the functions.
    names: Vec<String>,
    max_calls: usize,
    /// The number of calls returned so far.
    found: usize,
    state: State,
    /// Text that may belong to a call, from its first character.
    held: String,
    /// The calls parsed in `held`.
    calls: Vec<ToolCall>,
    /// The parts before `held`.
    parts: Parts,
}

/// What the parser expects next. Positions are offsets in the held text.
#[derive(Clone, Copy, Debug)]
enum State {
    /// The first non-whitespace character of the answer.
    Start,
    /// Text. The held text is a prefix of a marker.
    Text,
    /// The JSON value of a call.
    BeforeValue(Format),
    /// The rest of the name of a function, which begins at this position.
    InName(usize),
    /// The rest of a value.
    InValue(Format, Value),
    /// Text after a value and whitespace, which end at this position.
    AfterValue(Format, usize),
}

impl ToolParser {
    /// A parser for calls of the functions `names`. Calls after the first `max_calls` are dropped.
    pub fn new(names: Vec<String>, max_calls: usize) -> Self {
        Self {
            names,
            max_calls,
            found: 0,
            state: State::Start,
            held: String::new(),
            calls: Vec::new(),
            parts: Parts::default(),
        }
    }

    /// Adds a piece of text and returns the parts that are now complete.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        for character in text.chars() {
            self.held.push(character);
            self.state = self.next(character);
        }
        self.parts.take()
    }

    /// Ends the answer and returns the remaining parts.
    pub fn finish(&mut self) -> Vec<Part> {
        match self.state {
            State::AfterValue(Format::Hermes | Format::Bare, _) => self.emit_calls(),
            _ => self.release(self.held.len()),
        }
        self.parts.finish();
        self.state = State::Text;
        self.parts.take()
    }

    /// Whether `max_calls` calls have been found.
    pub fn is_full(&self) -> bool {
        self.found >= self.max_calls
    }

    /// The state after `character`, which is the last one of the held text.
    fn next(&mut self, character: char) -> State {
        let at = self.held.len() - character.len_utf8();
        let space = character.is_whitespace();
        let opens_value = matches!(character, '{' | '[');
        match self.state {
            State::Start if space => {
                self.release(self.held.len());
                State::Start
            }
            State::Start if opens_value => State::InValue(Format::Bare, Value::new(at)),
            State::BeforeValue(_) if space => self.state,
            State::BeforeValue(format) if opens_value => State::InValue(format, Value::new(at)),
            State::BeforeValue(Format::Mistral) => self.in_name(at),
            State::InName(begins) => self.in_name(begins),
            State::InValue(format, value) => self.in_value(format, value, character),
            State::AfterValue(format, end) if space && end == at => {
                State::AfterValue(format, self.held.len())
            }
            State::AfterValue(Format::Hermes, end) => self.in_end_marker(end),
            State::AfterValue(format, _) if character == ';' => State::BeforeValue(format),
            _ => self.in_text(),
        }
    }

    /// The held text is not a call. Its end may be a marker, or a prefix of one.
    fn in_text(&mut self) -> State {
        self.calls.clear();
        let markers = OPENING.iter().map(|(marker, _)| marker_at_end(&self.held, marker));
        let at = markers.min().unwrap_or(self.held.len());
        self.release(at);
        let opened = OPENING.iter().find(|(marker, _)| self.held == *marker);
        opened.map_or(State::Text, |(_, format)| State::BeforeValue(*format))
    }

    /// After `[TOOL_CALLS]`, in a name that begins at `begins`.
    fn in_name(&mut self, begins: usize) -> State {
        let written = &self.held[begins..];
        let rests = self.names.iter().filter_map(|name| written.strip_prefix(name.as_str()));
        let ends_name = |rest: &str| matches!(rest.strip_suffix('{'), Some("" | MISTRAL_ARGUMENTS));
        if rests.clone().any(ends_name) {
            return State::InValue(Format::Mistral, Value::new(self.held.len() - 1));
        }
        let in_a_name = self.names.iter().any(|name| name.starts_with(written));
        if in_a_name || rests.into_iter().any(|rest| MISTRAL_ARGUMENTS.starts_with(rest)) {
            return State::InName(begins);
        }
        self.in_text()
    }

    fn in_value(&mut self, format: Format, mut value: Value, character: char) -> State {
        match value.add(character) {
            Progress::Incomplete => return State::InValue(format, value),
            Progress::Malformed => return self.in_text(),
            Progress::Complete => {}
        }
        let Some(calls) = self.calls_in(value.start) else {
            return self.in_text();
        };
        self.calls.extend(calls);
        if matches!(format, Format::Mistral | Format::Python) {
            self.emit_calls();
        }
        match format {
            Format::Mistral => State::Text,
            _ => State::AfterValue(format, self.held.len()),
        }
    }

    /// After a Hermes value that ends at `end`.
    fn in_end_marker(&mut self, end: usize) -> State {
        let written = &self.held[end..];
        if written == HERMES_END {
            self.emit_calls();
            return State::Text;
        }
        if HERMES_END.starts_with(written) {
            return State::AfterValue(Format::Hermes, end);
        }
        self.in_text()
    }

    /// The calls in the value that begins at `begins`. None if one of them is not a call of a known function.
    fn calls_in(&self, begins: usize) -> Option<Vec<ToolCall>> {
        let (before, value) = self.held.split_at(begins);
        let name = before.strip_prefix(MISTRAL).unwrap_or_default().trim_start();
        let calls = if name.is_empty() {
            calls(value)?
        } else {
            let name = name.strip_suffix(MISTRAL_ARGUMENTS).unwrap_or(name);
            vec![ToolCall { name: name.into(), arguments: object(value)? }]
        };
        let known = calls.iter().all(|call| self.names.contains(&call.name));
        (known && !calls.is_empty()).then_some(calls)
    }

    /// Returns the calls in the held text, and drops that text.
    fn emit_calls(&mut self) {
        self.held.clear();
        self.calls.truncate(self.max_calls.saturating_sub(self.found));
        self.found += self.calls.len();
        self.parts.push_calls(self.calls.drain(..));
    }

    /// Releases the first `up_to` bytes of the held text.
    fn release(&mut self, up_to: usize) {
        self.parts.push_text(&self.held[..up_to]);
        self.held.drain(..up_to);
    }
}

/// The position of the longest suffix of `text` that is a prefix of `marker`, or all of it.
fn marker_at_end(text: &str, marker: &str) -> usize {
    let first = text.len().saturating_sub(marker.len());
    let begins = |at: &usize| marker.as_bytes().starts_with(&text.as_bytes()[*at..]);
    (first..text.len()).find(begins).unwrap_or(text.len())
}
