//! The words and signs of a Lark grammar, without what is in its strings, regular expressions and comments.

/// A word or a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name, which may have hyphens, or a number.
    Word(&'a str),
    /// Any other character except whitespace.
    Sign(char),
}

/// Whether `c` may be in a name.
pub(super) fn is_in_names(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// The words and signs of `text`.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let skip = match first {
            '"' | '/' if !rest.starts_with("//") => literal(rest, first),
            '/' | '#' => rest.find('\n').unwrap_or(rest.len()),
            _ if is_in_names(first) => {
                let end = rest.find(|c: char| !is_in_names(c));
                let word = &rest[..end.unwrap_or(rest.len())];
                tokens.push(Token::Word(word));
                word.len()
            }
            _ => {
                if !first.is_whitespace() {
                    tokens.push(Token::Sign(first));
                }
                first.len_utf8()
            }
        };
        rest = &rest[skip..];
    }
    tokens
}

/// The length of the literal at the beginning of `text`, between two `quote`. Without an end it is one character.
fn literal(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\n' => break,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_left_out() {
        let found = tokens("a-b: \"x \\\" & y\" & /z\\/?~/ // & c\nd # e\n");
        let expected = [Token::Word("a-b"), Token::Sign(':'), Token::Sign('&'), Token::Word("d")];
        assert_eq!(found, expected);
    }
}
