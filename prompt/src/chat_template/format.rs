//! Texts with places for values: `%`, `|format` and `.format()`.

use minijinja::value::ValueKind;
use minijinja::{format_filter, Error, FormatStyle, State, Value};

use super::budget::{refused, TextLimit};
use super::python::str_of;

/// The widest column or highest precision that a format may ask for.
pub const MAX_WIDTH: usize = 4096;

/// `text % values`.
pub fn format(
    limit: TextLimit,
    state: &State,
    text: &str,
    values: &[Value],
) -> Result<String, Error> {
    check_format(limit, state, text, values)?;
    let mut letters = conversions(text);
    let shown = values.iter().map(|value| match letters.next() {
        Some('d' | 'i' | 'x' | 'X' | 'o') if !value.is_integer() => truncated(value),
        _ => shown(value),
    });
    format_filter(FormatStyle::Printf, text, &shown.collect::<Result<Vec<_>, _>>()?)
}

/// The letters of the places for values in `text`, in their order: `s`, `d` and so on, `*` for a width.
fn conversions(text: &str) -> impl Iterator<Item = char> + '_ {
    let mut rest = text;
    let mut within = false;
    std::iter::from_fn(move || loop {
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        match c {
            '%' => within = !within,
            '*' if within => return Some(c),
            c if within && c.is_ascii_alphabetic() => {
                within = false;
                return Some(c);
            }
            _ => {}
        }
    })
}

/// The whole part of a number.
fn truncated(value: &Value) -> Result<Value, Error> {
    match f64::try_from(value.clone()) {
        Ok(number) if number.abs() < 1e38 => Ok(Value::from(number.trunc() as i128)),
        _ => Ok(value.clone()),
    }
}

/// Refuses formats that make too much of `values`: too many of them, too wide, or too precise.
pub fn check_format(
    limit: TextLimit,
    state: &State,
    format: &str,
    values: &[Value],
) -> Result<(), Error> {
    check_widths(format)?;
    // `%*d` takes its width from a value.
    let width = |value: &Value| value.as_usize().unwrap_or(0);
    if format.contains('*') && values.iter().any(|value| width(value) > MAX_WIDTH) {
        return Err(too_wide());
    }
    let longest = values.iter().filter_map(|value| value.as_str()).map(str::len).max().unwrap_or(0);
    limit.check_repeated(format.matches(['%', '{']).count(), longest, state)
}

/// A list or a map is formatted as Python writes it. Values by name stay a map.
pub fn shown(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        _ if value.is_kwargs() => Ok(value.clone()),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map | ValueKind::None => {
            str_of(value).map(Value::from)
        }
        _ => Ok(value.clone()),
    }
}

pub fn too_wide() -> Error {
    refused(format!("a format is at most {MAX_WIDTH} characters wide"))
}

/// Refuses a width or precision of more than [`MAX_WIDTH`]. Any number in the format counts.
fn check_widths(format: &str) -> Result<(), Error> {
    let mut number = 0usize;
    for c in format.chars() {
        match c.to_digit(10) {
            Some(digit) => number = number.saturating_mul(10).saturating_add(digit as usize),
            None => number = 0,
        }
        if number > MAX_WIDTH {
            return Err(too_wide());
        }
    }
    Ok(())
}
