//! String formatting: `%`, `|format` and `.format()`. minijinja formats the numbers.

mod braces;
mod percent;

use minijinja::value::ValueKind;
use minijinja::{format_filter, Error, ErrorKind, FormatStyle, Value};

use super::padding::{padded, too_wide, Side, MAX_WIDTH};

pub use braces::brace_format;
pub use percent::{filter_format, percent_format};

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// The number at the beginning of `text`, if there is one, and the rest.
fn leading_number(text: &str) -> Result<(Option<usize>, &str), Error> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Ok((None, rest));
    }
    match digits.parse() {
        Ok(number) if number <= MAX_WIDTH => Ok((Some(number), rest)),
        _ => Err(too_wide()),
    }
}

/// A number formatted by minijinja. Booleans are 0 and 1.
fn number(style: FormatStyle, format: &str, value: &Value) -> Result<String, Error> {
    let value = match value.kind() {
        ValueKind::Bool => Value::from(i32::from(value.is_true())),
        _ => value.clone(),
    };
    format_filter(style, format, &[value])
}

/// The first `precision` characters of `text`, padded to `width`.
fn cut_and_padded(
    text: &str,
    precision: Option<usize>,
    width: usize,
    fill: char,
    side: Side,
) -> Result<String, Error> {
    let text: String = text.chars().take(precision.unwrap_or(usize::MAX)).collect();
    padded(&text, width, fill, side)
}
