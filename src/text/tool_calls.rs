//! Parses tool calls in the text of an answer, in the formats of the Llama, Mistral and Qwen families.

use super::tool_formats::{
    calls, object, Format, Progress, Value, HERMES_END, MISTRAL, MISTRAL_ARGUMENTS, OPENING,
};
pub use super::tool_formats::{ToolCall, MARKERS};

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text outside calls.
    Text(String),
    /// A tool call.
    Call(ToolCall),
}

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
    /// The whitespace before `held`. It is dropped if a call follows.
    whitespace: String,
    /// Whether there has been only whitespace since the last call.
    after_call: bool,
    /// Parts that have not been returned.
    parts: Vec<Part>,
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
            whitespace: String::new(),
            after_call: false,
            parts: Vec::new(),
        }
    }

    /// Adds a piece of text and returns the parts that are now complete.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        for character in text.chars() {
            self.held.push(character);
            self.state = self.next(character);
        }
        std::mem::take(&mut self.parts)
    }

    /// Ends the answer and returns the remaining parts.
    pub fn finish(&mut self) -> Vec<Part> {
        match self.state {
            State::AfterValue(Format::Hermes | Format::Bare, _) => self.emit_calls(),
            _ => self.release(self.held.len()),
        }
        let whitespace = std::mem::take(&mut self.whitespace);
        self.append(&whitespace);
        self.state = State::Text;
        std::mem::take(&mut self.parts)
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
        self.whitespace.clear();
        self.after_call = true;
        let left = self.max_calls.saturating_sub(self.found);
        let calls = self.calls.drain(..).take(left).map(Part::Call);
        let before = self.parts.len();
        self.parts.extend(calls);
        self.found += self.parts.len() - before;
    }

    /// Releases the first `up_to` bytes of the held text, except for trailing whitespace.
    fn release(&mut self, up_to: usize) {
        let released: String = self.held.drain(..up_to).collect();
        let text = if self.after_call { released.trim_start() } else { &released };
        let (text, whitespace) = text.split_at(text.trim_end().len());
        if !text.is_empty() {
            self.after_call = false;
            let before = std::mem::take(&mut self.whitespace);
            self.append(&before);
            self.append(text);
        }
        self.whitespace += whitespace;
    }

    fn append(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(last)) => last.push_str(text),
            _ => self.parts.push(Part::Text(text.into())),
        }
    }
}

/// The position of the longest suffix of `text` that is a prefix of `marker`, or all of it.
fn marker_at_end(text: &str, marker: &str) -> usize {
    let first = text.len().saturating_sub(marker.len());
    let begins = |at: &usize| marker.as_bytes().starts_with(&text.as_bytes()[*at..]);
    (first..text.len()).find(begins).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rand::{rngs::StdRng, seq::IndexedRandom, Rng, SeedableRng};

    use super::*;

    const F: &str = r#"{"name":"f","arguments":{"a":"}\"é"}}"#;
    const FOUND: &str = r#"«f {"a":"}\"é"}»"#;

    /// The parts of an answer in these pieces, each call as `«name arguments»`.
    fn parsed(max_calls: usize, pieces: &[&str]) -> String {
        let mut parser = ToolParser::new(["f", "fo", "get-x"].map(String::from).into(), max_calls);
        let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
        parts.extend(parser.finish());
        let calls = parts.iter().filter(|part| matches!(part, Part::Call(_))).count();
        assert!(calls <= max_calls && parser.is_full() == (calls == max_calls));
        let shown = parts.into_iter().map(|part| match part {
            Part::Text(text) => text,
            Part::Call(call) => format!("«{} {}»", call.name, call.arguments),
        });
        shown.collect()
    }

    /// `cases`: an answer and what is found in it. `F` stands for the call, `FOUND` for it found.
    fn check(cases: &[(&str, &str)]) {
        for (answer, expected) in cases {
            let (answer, expected) = (answer.replace('F', F), expected.replace("FOUND", "@"));
            let expected = expected.replace('F', F).replace('@', FOUND);
            assert_eq!(parsed(9, &[&answer]), expected, "{answer}");
            assert_eq!(parsed(9, &answer.split("").collect::<Vec<_>>()), expected, "{answer}");
        }
    }

    #[test]
    fn hermes_calls_are_found() {
        check(&[
            ("<tool_call>F</tool_call>", "FOUND"),
            ("\n<tool_call>\nF\n</tool_call>\n<tool_call>F</tool_call>\n", "FOUNDFOUND"),
            (" a \n<tool_call>F</tool_call>\nb <tool_call>F</tool_call> c ", " aFOUNDbFOUNDc "),
            ("<tool_call>[F, F]</tool_call>", "FOUNDFOUND"),
            ("a <tool_call>F", "aFOUND"),
            ("a <tool_call>F\n</tool_", "aFOUND"),
            ("<tool_call>oops <tool_call>F</tool_call>", "<tool_call>oopsFOUND"),
            ("<tool_call>{\"a\n<tool_call>F</tool_call>", "<tool_call>{\"aFOUND"),
            ("<tool_<tool_call>F</tool_call>", "<tool_FOUND"),
        ]);
    }

    #[test]
    fn mistral_calls_are_found() {
        check(&[
            ("a [TOOL_CALLS] [F, F] b", "aFOUNDFOUNDb"),
            ("[TOOL_CALLS]f{\"a\": [1]}", "«f {\"a\": [1]}»"),
            ("[TOOL_CALLS]fo[ARGS]{}[TOOL_CALLS]get-x{}", "«fo {}»«get-x {}»"),
            ("[TOOL_CALLS][TOOL_CALLS] f{}", "[TOOL_CALLS]«f {}»"),
            ("[TOOL_CALLS]fo[TOOL_CALLS]f{}", "[TOOL_CALLS]fo«f {}»"),
        ]);
    }

    #[test]
    fn llama_calls_are_found() {
        check(&[
            ("a <|python_tag|>F ; F\nb", "aFOUNDFOUNDb"),
            ("<|python_tag|>F; {}", "FOUND; {}"),
            (" F\n", "FOUND"),
            ("F; F", "FOUNDFOUND"),
            ("[F, F]", "FOUNDFOUND"),
        ]);
    }

    #[test]
    fn text_that_is_not_a_call_is_unchanged() {
        let answers = r#"|<tool_call>|</tool_call>|a <tool_|<<[TOOL_CALLS|<<tool_call>F<b|a F|F a|F;
            |F; {|F F|[]|[1] a|{x|{"a":"<tool_call>F|[F|<tool_call>{"a <tool_call>F</tool_call>
            |<tool_call> {"name":"g","arguments":{}} </tool_call> |<tool_call>F}</tool_call>
            |[TOOL_CALLS]fob{}|[TOOL_CALLS]f{|[TOOL_CALLS]f[ARGS] a|[TOOL_CALLS]fo[ARGS]
            |[TOOL_CALLS]f{1}|[TOOL_CALLS][F,{}]|[TOOL_CALLS] []"#;
        for answer in answers.split('|') {
            check(&[(answer, answer)]);
        }
        check(&["<|python_tag|>print(1)", "<|python_tag|>{]", "<|"].map(|answer| (answer, answer)));
    }

    #[test]
    fn later_calls_are_dropped() {
        let answer = "a <tool_call>F</tool_call> <tool_call>F</tool_call> b".replace('F', F);
        assert_eq!(parsed(1, &[&answer]), format!("a{FOUND}b"));
        assert_eq!(parsed(1, &[&format!("[{F},{F}]")]), FOUND);
        assert_eq!(parsed(0, &[F]), "");
    }

    #[test]
    fn text_is_held_back_only_while_a_call_may_follow() {
        let mut parser = ToolParser::new(vec!["f".into()], 1);
        let text = |text: &str| vec![Part::Text(text.into())];
        assert_eq!(parser.push(" {x} a"), text(" {x} a"));
        assert_eq!(parser.push("b<"), text("b"));
        assert_eq!(parser.push("c \n"), text("<c"));
        assert_eq!(
            parser.push("[TOOL_CALLS]f{}"),
            [Part::Call(ToolCall { name: "f".into(), arguments: "{}".into() })]
        );
        assert!(parser.is_full());
    }

    #[test]
    fn the_result_does_not_depend_on_the_pieces() {
        let mut rng = StdRng::seed_from_u64(11);
        let fragments =
            "<tool_call>~</tool_call>~[TOOL_CALLS]~<|python_tag|>~<tool~_call>~[TOOL~<|~{~}~\
            [~]~\"~\\~,~;~ ~\n~é~🦊~1~f~fo~[ARGS]~{}~F~F~F~<tool_call>F~[TOOL_CALLS]f{}~{\"name\":~\
            \"arguments\":{~<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>";
        let fragments: Vec<&str> = fragments.split('~').collect();
        let mut found = 0;
        for _ in 0..5000 {
            let length = rng.random_range(0..12);
            let answer: String =
                (0..length).map(|_| *fragments.choose(&mut rng).unwrap()).collect();
            let answer = answer.replace('F', F);
            let whole = parsed(2, &[&answer]);
            let cuts = (0..=answer.len()).filter(|at| answer.is_char_boundary(*at));
            let mut cuts: Vec<usize> = cuts.filter(|_| rng.random_bool(0.4)).collect();
            cuts.extend([0, answer.len()]);
            cuts.sort();
            let pieces: Vec<&str> = cuts.windows(2).map(|cut| &answer[cut[0]..cut[1]]).collect();
            assert_eq!(parsed(2, &pieces), whole, "{pieces:?}");
            found += usize::from(whole.contains('«'));
            assert!(whole.contains('«') || whole == answer, "{answer}");
        }
        assert!(found > 500, "{found}");
    }

    #[test]
    fn a_long_answer_takes_linear_time() {
        for (start, repeated) in [
            ("<tool_call>{\"", "a"),
            ("<tool_call>", "{"),
            ("", "["),
            ("<tool_call>", " "),
            ("", "a "),
            ("[TOOL_CALLS]", " "),
            ("", "<tool_call>{"),
            ("<tool_call>{\"", "<tool_call>"),
            ("", " <"),
        ] {
            let answer = start.to_string() + &repeated.repeat(100_000 / repeated.len());
            let pieces: Vec<&str> = answer.split("").collect();
            let begun = Instant::now();
            assert_eq!(parsed(1, &pieces), answer);
            assert!(begun.elapsed() < Duration::from_secs(1), "{start}{repeated}");
        }
    }
}
