//! Long text, cut for messages.

use std::borrow::Cow;
use std::fmt::Debug;

use super::escape::escape_control;

/// Bytes that are kept of the beginning of a long text.
const BEGIN: usize = 300;
/// Bytes that are kept of the end of a long text.
const END: usize = 150;

/// `text` as messages show it: on one line, without control characters (see [`escape_control`]).
/// Of a text longer than 900 bytes only the beginning and the end remain.
pub fn abbreviate(text: &str) -> Cow<'_, str> {
    match escape_control(text) {
        Cow::Borrowed(text) => cut(text),
        Cow::Owned(text) => Cow::Owned(cut(&text).into_owned()),
    }
}

fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= 2 * (BEGIN + END) {
        return Cow::Borrowed(text);
    }
    let boundary = |at: &usize| text.is_char_boundary(*at);
    let begin = &text[..(0..=BEGIN).rev().find(boundary).unwrap_or(0)];
    let end = &text[(text.len() - END..text.len()).find(boundary).unwrap_or(text.len())..];
    let left_out = text.len() - begin.len() - end.len();
    Cow::Owned(format!("{begin} .. ({left_out} bytes) .. {end}"))
}

/// [`abbreviate`] applied to the debug form of a list.
pub(crate) fn abbreviate_list(entries: &[impl Debug]) -> String {
    abbreviate(&format!("{entries:?}")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_its_beginning_and_end() {
        assert_eq!(abbreviate("short"), "short");
        let long = format!("begins {} ends", "é".repeat(1_000_000));
        let short = abbreviate(&long);
        assert!(short.len() < 1000);
        assert!(short.starts_with("begins") && short.ends_with("ends"));
        let escapes = abbreviate(&"\u{1b}".repeat(1_000_000)).into_owned();
        assert!(escapes.len() < 1000 && escapes.starts_with(r"\u{1b}"), "{escapes}");
    }
}
