//! Finds the end of a JSON value in streamed text.

/// An incomplete JSON object or array.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    /// The position at which it begins in the text.
    pub(super) start: usize,
    /// The number of open braces and brackets.
    depth: usize,
    in_string: bool,
    after_backslash: bool,
}

/// The state of a value after a character.
#[derive(Debug)]
pub(super) enum Progress {
    Incomplete,
    Complete,
    Malformed,
}

impl Value {
    /// A value that begins at `start`, where its opening bracket has been read.
    pub(super) fn new(start: usize) -> Self {
        Self { start, depth: 1, in_string: false, after_backslash: false }
    }

    /// Adds a character. Detects the end of the value, and errors that show in a single character.
    pub(super) fn add(&mut self, character: char) -> Progress {
        match character {
            '\0'..' ' if self.in_string => return Progress::Malformed,
            _ if self.after_backslash => self.after_backslash = false,
            '\\' if self.in_string => self.after_backslash = true,
            '"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            '{' | '[' => self.depth += 1,
            '}' | ']' => self.depth -= 1,
            ' ' | '\t' | '\r' | '\n' | ':' | ',' | '0'..='9' | '+' | '-' | '.' | 'E' => {}
            // The letters of true, false and null.
            'a' | 'e' | 'f' | 'l' | 'n' | 'r' | 's' | 't' | 'u' => {}
            _ => return Progress::Malformed,
        }
        match self.depth {
            0 => Progress::Complete,
            _ => Progress::Incomplete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_value_is_not_in_its_strings() {
        for json in [r#"{}"#, r#"[{"a":[1,{}]}]"#, r#"{"}":"\"}\\","é":"]🦊"}"#] {
            let mut value = Value::new(0);
            let progress: Vec<Progress> = json.chars().skip(1).map(|c| value.add(c)).collect();
            let complete = progress.iter().position(|it| matches!(it, Progress::Complete));
            assert_eq!(complete, Some(progress.len() - 1), "{json}");
        }
    }
}
