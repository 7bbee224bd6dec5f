//! Text from files in messages: a file may hold megabytes where a word is expected.

use std::borrow::Cow;
use std::fmt::Debug;

use crate::escaped::escaped;

/// What is kept of a long text, in bytes: its beginning and its end.
const BEGIN: usize = 300;
const END: usize = 150;

/// `text` as messages show it: without control characters (see [`escaped`]), and of a long one its beginning and
/// its end.
pub fn shortened(text: &str) -> Cow<'_, str> {
    match escaped(text) {
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

/// [`shortened`] of a list.
pub(crate) fn list(entries: &[impl Debug]) -> String {
    shortened(&format!("{entries:?}")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_its_ends() {
        assert_eq!(shortened("short"), "short");
        let long = format!("begins {} ends", "é".repeat(1_000_000));
        let short = shortened(&long);
        assert!(short.len() < 1000);
        assert!(short.starts_with("begins") && short.ends_with("ends"));
        let escapes = shortened(&"\u{1b}".repeat(1_000_000)).into_owned();
        assert!(escapes.len() < 1000 && escapes.starts_with(r"\u{1b}"), "{escapes}");
    }
}
