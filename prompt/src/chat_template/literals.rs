//! The code inside tags, rewritten to what minijinja can parse.
//!
//! minijinja has fewer escapes in string literals than Python, and no sign `+`, so `+a` becomes `- -a`.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

use super::python::escaped;

/// Keywords after which an operand begins.
const BEFORE_VALUES: [&str; 9] =
    ["in", "not", "and", "or", "is", "if", "elif", "else", "recursive"];

/// The rewritten tag or expression `tag`. The error says what is wrong with it.
pub fn known_code(tag: &str) -> Result<String, String> {
    let mut out = String::with_capacity(tag.len());
    // The first characters open the tag, possibly with a sign for whitespace control.
    let open = if tag[2..].starts_with(['-', '+']) { 3 } else { 2 };
    out.push_str(&tag[..open]);
    let mut rest = &tag[open..];
    let mut after_value = false;
    while let Some(c) = rest.chars().next() {
        let end = match c {
            '\'' | '"' => literal_end(rest, c),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(end);
        match c {
            '\'' | '"' if token.len() > 1 && token.ends_with(c) => literal(&mut out, token)?,
            '+' if !after_value && !after.starts_with(['%', '}']) => out.push_str("- -"),
            _ => out.push_str(token),
        }
        if !c.is_whitespace() {
            let is_value = is_word(c) && !BEFORE_VALUES.contains(&token);
            after_value = is_value || ")]}'\"".contains(c);
        }
        rest = after;
    }
    Ok(out)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The end of the string literal at the beginning of `text`, which is quoted by `quote`.
fn literal_end(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// Appends the string literal `token` with escapes that minijinja knows.
fn literal(out: &mut String, token: &str) -> Result<(), String> {
    let mut chars = token[1..token.len() - 1].chars().peekable();
    // A backslash at the end of a line joins two lines. The newlines are written after the literal, so that
    // line numbers stay the same.
    let mut joined_lines = 0;
    out.push('"');
    while let Some(c) = chars.next() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' if chars.next_if_eq(&'\n').is_some() => joined_lines += 1,
            '\\' => escape(&mut chars)?.chars().for_each(|c| push_char(out, c)),
            c => out.push(c),
        }
    }
    out.push('"');
    (0..joined_lines).for_each(|_| out.push('\n'));
    Ok(())
}

fn push_char(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        c => out.push(c),
    }
}

/// The character of the escape sequence `chars`, after its backslash, in Python.
fn escape(chars: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let Some(c) = chars.next() else { return Ok("\\".into()) };
    let character = match c {
        '\\' | '\'' | '"' => c,
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '0'..='7' => octal(c, chars),
        'x' => hexadecimal(chars, 2)?,
        'u' => hexadecimal(chars, 4)?,
        'U' => hexadecimal(chars, 8)?,
        'N' => return Err("a text has an escape `\\N{…}`; expected the character itself".into()),
        c if c.is_ascii() => return Ok(format!("\\{c}")),
        // Jinja escapes non-ASCII characters before Python evaluates the literal.
        c => return Ok(format!("\\{}", &escaped(c)[1..])),
    };
    Ok(character.into())
}

fn octal(first: char, chars: &mut Peekable<Chars<'_>>) -> char {
    let mut code = first.to_digit(8).unwrap_or(0);
    for _ in 0..2 {
        let Some(digit) = chars.next_if(|c| c.is_digit(8)) else { break };
        code = code * 8 + digit.to_digit(8).unwrap_or(0);
    }
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The character whose code has `digits` digits. A surrogate pair is one character.
fn hexadecimal(chars: &mut Peekable<Chars<'_>>, digits: usize) -> Result<char, String> {
    let high = code(chars, digits)?;
    if (0xd800..0xdc00).contains(&high) {
        let mut ahead = chars.clone();
        if (ahead.next(), ahead.next()) == (Some('\\'), Some('u')) {
            if let Ok(low @ 0xdc00..=0xdfff) = code(&mut ahead, 4) {
                *chars = ahead;
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return char::from_u32(code).ok_or_else(|| "a text has an invalid escape".into());
            }
        }
    }
    char::from_u32(high).ok_or_else(|| {
        let mut message = "a text has an escape that is not a character: ".to_string();
        write!(message, "{high:x}").ok();
        message
    })
}

fn code(chars: &mut Peekable<Chars<'_>>, digits: usize) -> Result<u32, String> {
    let mut code = 0;
    for _ in 0..digits {
        let digit = chars.next_if(char::is_ascii_hexdigit).and_then(|c| c.to_digit(16));
        let digit =
            digit.ok_or_else(|| format!("a text has an escape with fewer than {digits} digits"))?;
        code = (code << 4) | digit;
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_have_escapes_that_minijinja_knows() {
        for (code, expected) in [
            (r"{{ '\/\q\v\101\x41\u00e9' }}", "{{ \"\\\\/\\\\q\u{b}AAé\" }}"),
            (r"{{ '\ud83d\ude00' }}", "{{ \"😀\" }}"),
            ("{{ 'a\\\nb' }}", "{{ \"ab\"\n }}"),
            (r"{{ 'a", r"{{ 'a"),
        ] {
            assert_eq!(known_code(code).unwrap(), expected);
        }
        for code in [r"{{ '\x4' }}", r"{{ '\ud83d' }}", r"{{ '\U00110000' }}", r"{{ '\N{DASH}' }}"]
        {
            assert!(known_code(code).is_err(), "{code}");
        }
    }

    #[test]
    fn signs_that_minijinja_does_not_know_are_written_otherwise() {
        for (code, expected) in [
            ("{{ +1 }}", "{{ - -1 }}"),
            ("{% if +a == b+1 %}", "{% if - -a == b+1 %}"),
            ("{{ [+1, (2)+3] }}", "{{ [- -1, (2)+3] }}"),
            ("{%+ else +%}", "{%+ else +%}"),
            ("{{+ '+' +}}", "{{+ \"+\" +}}"),
        ] {
            assert_eq!(known_code(code).unwrap(), expected);
        }
    }
}
