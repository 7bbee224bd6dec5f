//! `NaN`, `Infinity` and `-Infinity` in JSON: Python writes and reads them, JSON does not know them.

use std::borrow::Cow;

const WORDS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// `json` with the bare words `NaN`, `Infinity` and `-Infinity` in quotes. What stands in strings stays as it
/// is. transformers takes such files (`"model_max_length": Infinity`), and so they are JSON to us: where
/// nobody reads the value, it does no harm; where a number is expected, the string is refused by the field's
/// name.
///
/// Each word moves what follows it in its line by two columns, also in messages.
pub(crate) fn quote_bare_words(json: &str) -> Cow<'_, str> {
    if !json.contains("NaN") && !json.contains("Infinity") {
        return Cow::Borrowed(json);
    }
    let bytes = json.as_bytes();
    let mut quoted = String::new();
    // Up to here `json` has been copied, and looked at.
    let (mut copied, mut at) = (0, 0);
    while at < bytes.len() {
        let begin = at;
        at = match bytes[at] {
            b'"' => end_of_string(bytes, at),
            byte if is_of_word(byte) => end_of_word(bytes, at),
            _ => at + 1,
        };
        if WORDS.contains(&&json[begin..at]) && !is_key(&json[at..]) {
            quoted.extend([&json[copied..begin], "\"", &json[begin..at], "\""]);
            copied = at;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    quoted.push_str(&json[copied..]);
    Cow::Owned(quoted)
}

/// Where the string that begins at `begin` ends.
fn end_of_string(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while let Some(&byte) = bytes.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    bytes.len()
}

/// Letters, digits and what else numbers and words are made of. All bytes of a character past ASCII are.
fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte) || !byte.is_ascii()
}

fn end_of_word(bytes: &[u8], begin: usize) -> usize {
    begin + bytes[begin..].iter().take_while(|&&byte| is_of_word(byte)).count()
}

/// Whether what stands before `rest` is the name of a field, which must be a string for Python too.
fn is_key(rest: &str) -> bool {
    rest.trim_start_matches([' ', '\t', '\r', '\n']).starts_with(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_become_strings() {
        assert_eq!(
            quote_bare_words(r#"{"a": NaN, "b": [Infinity,-Infinity], "c": NaN}"#),
            r#"{"a": "NaN", "b": ["Infinity","-Infinity"], "c": "NaN"}"#
        );
        assert_eq!(quote_bare_words("NaN"), r#""NaN""#);
        assert_eq!(quote_bare_words("\n-Infinity\n"), "\n\"-Infinity\"\n");
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let same = [
            "",
            r#"{"a": "NaN", "NaN": "x Infinity", "-Infinity": 1}"#,
            // Quotes and backslashes in strings.
            r#"{"a": "\" NaN \\\" NaN", "b": "é NaN"}"#,
            r#"["\\", "NaN", "\\\\", "Infinity"]"#,
            // Strings that do not end.
            r#"{"a": "NaN"#,
            r#"{"a": "NaN \"#,
            // Words that Python does not know either.
            "[NaNs, nan, -NaN, +Infinity, Infinity1, éNaN, NaNé, Infinity.]",
            "{NaN: 1, Infinity\n : 2}",
        ];
        for json in same {
            assert!(matches!(quote_bare_words(json), Cow::Borrowed(_)), "{json}");
        }
        assert_eq!(quote_bare_words(r#"["\\", NaN]"#), r#"["\\", "NaN"]"#);
    }
}
