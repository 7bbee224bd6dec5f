//! The function `strftime_now`.

use std::fmt::Write;

use chrono::{DateTime, Local};
use minijinja::{Error, ErrorKind, State, Value};

/// The longest format, in bytes.
const MAX_FORMAT: usize = 4096;

/// The function `strftime_now` for the time `now`. As in transformers the time has no time zone.
pub fn at(now: DateTime<Local>) -> Value {
    let now = now.naive_local();
    Value::from_function(move |_: &State, format: &str| -> Result<String, Error> {
        if format.len() > MAX_FORMAT {
            let message = format!("strftime_now: expected a format of at most {MAX_FORMAT} bytes");
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
        let mut text = String::new();
        let mut rest = format;
        while let Some(start) = rest.find('%') {
            text.push_str(&rest[..start]);
            let (directive, after) = rest[start..].split_at(directive_end(&rest[start..]));
            rest = after;
            match directive {
                "%z" | "%Z" => {}
                // Microseconds; in chrono `%f` means nanoseconds.
                "%f" => text.push_str(&now.format("%6f").to_string()),
                directive => {
                    let mut written = String::new();
                    // An unknown directive is written unchanged.
                    match write!(written, "{}", now.format(directive)) {
                        Ok(()) => text.push_str(&written),
                        Err(_) => text.push_str(directive),
                    }
                }
            }
        }
        text.push_str(rest);
        Ok(text)
    })
}

/// The end of the directive at the beginning of `text`: a percent sign, possibly flags, and a letter.
fn directive_end(text: &str) -> usize {
    let flags = text[1..].len() - text[1..].trim_start_matches(['-', '_', '0', '^', '#']).len();
    let letter = text[1 + flags..].chars().next().map_or(0, char::len_utf8);
    1 + flags + letter
}
