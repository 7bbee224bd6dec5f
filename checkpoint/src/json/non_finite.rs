//! `NaN`, `Infinity` and `-Infinity`, which Python writes as bare words and JSON does not have.

use std::borrow::Cow;

const WORDS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// `json` with the bare words `NaN`, `Infinity` and `-Infinity` in quotes. Strings are unchanged.
///
/// transformers accepts such files (`"model_max_length": Infinity`). A quoted word is harmless where
/// nothing reads the value; where a number is expected, the string is an error that names the field.
///
/// Each quoted word shifts the columns in messages about the rest of its line by two.
pub(super) fn quote_non_finite(json: &str) -> Cow<'_, str> {
    if !json.contains("NaN") && !json.contains("Infinity") {
        return Cow::Borrowed(json);
    }
    let bytes = json.as_bytes();
    let mut quoted = String::new();
    // `json[..copied]` is in `quoted`; `json[..at]` is scanned.
    let (mut copied, mut at) = (0, 0);
    while at < bytes.len() {
        let begin = at;
        at = match bytes[at] {
            b'"' => end_of_string(bytes, at),
            byte if is_word_byte(byte) => end_of_word(bytes, at),
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

/// The end of the string that begins at `begin`.
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

/// Whether `byte` can be part of a number or a word. Bytes of non-ASCII characters can.
fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte) || !byte.is_ascii()
}

fn end_of_word(bytes: &[u8], begin: usize) -> usize {
    begin + bytes[begin..].iter().take_while(|&&byte| is_word_byte(byte)).count()
}

/// Whether `rest` follows a key. Python does not accept a bare word as a key either.
fn is_key(rest: &str) -> bool {
    rest.trim_start_matches([' ', '\t', '\r', '\n']).starts_with(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_numbers_become_strings() {
        assert_eq!(
            quote_non_finite(r#"{"a": NaN, "b": [Infinity,-Infinity], "c": NaN}"#),
            r#"{"a": "NaN", "b": ["Infinity","-Infinity"], "c": "NaN"}"#
        );
        assert_eq!(quote_non_finite("NaN"), r#""NaN""#);
        assert_eq!(quote_non_finite("\n-Infinity\n"), "\n\"-Infinity\"\n");
    }

    #[test]
    fn other_text_is_unchanged() {
        let same = [
            "",
            r#"{"a": "NaN", "NaN": "x Infinity", "-Infinity": 1}"#,
            // Quotes and backslashes within strings.
            r#"{"a": "\" NaN \\\" NaN", "b": "é NaN"}"#,
            r#"["\\", "NaN", "\\\\", "Infinity"]"#,
            // Unterminated strings.
            r#"{"a": "NaN"#,
            r#"{"a": "NaN \"#,
            // Words that Python does not accept either.
            "[NaNs, nan, -NaN, +Infinity, Infinity1, éNaN, NaNé, Infinity.]",
            "{NaN: 1, Infinity\n : 2}",
        ];
        for json in same {
            assert!(matches!(quote_non_finite(json), Cow::Borrowed(_)), "{json}");
        }
        assert_eq!(quote_non_finite(r#"["\\", NaN]"#), r#"["\\", "NaN"]"#);
    }
}
