//! Characters that a terminal acts on, escaped.

use std::borrow::Cow;

/// `text` with line breaks, other control characters and marks of writing direction escaped as
/// `\n` or `\u{1b}`. The result is one line that a terminal shows literally.
///
/// ```
/// assert_eq!(colm_checkpoint::escape_control("a\nb\u{1b}[31m"), r"a\nb\u{1b}[31m");
/// ```
pub fn escape_control(text: &str) -> Cow<'_, str> {
    if !text.contains(needs_escape) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::new();
    for character in text.chars() {
        if needs_escape(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

fn needs_escape(character: char) -> bool {
    let is_separator_or_direction = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character.is_control() || is_separator_or_direction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            escape_control("a\nb\t\r\u{1b}[31m\u{0}\u{9b}\u{7f}"),
            r"a\nb\t\r\u{1b}[31m\u{0}\u{9b}\u{7f}"
        );
        assert_eq!(escape_control("\u{202e}txt.exe\u{2028}"), r"\u{202e}txt.exe\u{2028}");
    }

    #[test]
    fn other_characters_are_unchanged() {
        let text = r#"é "quoted" `a\b` 漢字 नमस्ते"#;
        assert!(matches!(escape_control(text), Cow::Borrowed(same) if same == text));
    }
}
