//! Characters that a terminal acts on, in text from files.

use std::borrow::Cow;

/// `text` with line breaks, terminal escapes, other control characters and marks of writing direction written as
/// `\n` or `\u{1b}`: one line, which a terminal shows as it is.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for character in text.chars() {
        match is_hidden(character) {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

fn is_hidden(character: char) -> bool {
    let is_separator_or_direction = matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || is_separator_or_direction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(
            escaped("a\nb\t\r\u{1b}[31m\u{0}\u{9b}\u{7f}"),
            r"a\nb\t\r\u{1b}[31m\u{0}\u{9b}\u{7f}"
        );
        assert_eq!(escaped("\u{202e}txt.exe\u{2028}"), r"\u{202e}txt.exe\u{2028}");
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let text = r#"é "quoted" `a\b` 漢字 नमस्ते"#;
        assert!(matches!(escaped(text), Cow::Borrowed(same) if same == text));
    }
}
