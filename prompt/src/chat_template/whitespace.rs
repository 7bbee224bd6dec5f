//! White space and line boundaries of Python.

/// Python's line boundaries besides `\n`.
pub const LINE_ENDS: [char; 9] =
    ['\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];

/// `str.isspace` of one character: Unicode white space, and four separators that Rust does not include.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `text.splitlines(keepends)`.
pub fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(line) = rest.find(|c| c == '\n' || LINE_ENDS.contains(&c)) {
        let end = if rest[line..].starts_with("\r\n") {
            line + 2
        } else {
            line + rest[line..].chars().next().map_or(0, char::len_utf8)
        };
        lines.push(&rest[..if keep_ends { end } else { line }]);
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}
