//! The string forms of values in Python.

use std::fmt::Write;

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::tuple::is_tuple;
use super::views::{is_view, MapView, Range};

/// `str(value)`: what `{{ value }}` writes.
pub fn str_of(value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    write_str(&mut text, value)?;
    Ok(text)
}

/// Appends `str(value)` to `out`.
pub fn write_str(out: &mut String, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::String => out.push_str(value.as_str().unwrap_or_default()),
        _ => write_repr(out, value)?,
    }
    Ok(())
}

/// `repr(value)`.
pub fn repr_of(value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    write_repr(&mut text, value)?;
    Ok(text)
}

/// `ascii(value)`: its `repr` with non-ASCII characters escaped.
pub fn ascii_repr(value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    for c in repr_of(value)?.chars() {
        if c.is_ascii() {
            text.push(c)
        } else {
            text.push_str(&escaped(c))
        }
    }
    Ok(text)
}

/// Appends `repr(value)` to `out`.
fn write_repr(out: &mut String, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Number => match float(value) {
            Some(number) => out.push_str(&float_repr(number)),
            None => write!(out, "{value}").unwrap_or_default(),
        },
        ValueKind::Seq | ValueKind::Iterable => {
            if let Some(view) = view_repr(value)? {
                out.push_str(&view);
                return Ok(());
            }
            let (open, close) = match is_tuple(value) {
                true if value.len() == Some(1) => ("(", ",)"),
                true => ("(", ")"),
                false => ("[", "]"),
            };
            out.push_str(open);
            for (index, item) in value.try_iter()?.enumerate() {
                separate(out, index);
                write_repr(out, &item)?;
            }
            out.push_str(close);
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                separate(out, index);
                write_repr(out, &key)?;
                out.push_str(": ");
                write_repr(out, &value.get_item(&key)?)?;
            }
            out.push('}');
        }
        _ => write!(out, "{value}").unwrap_or_default(),
    }
    Ok(())
}

/// The kind of a value, for error messages.
pub fn kind_name(value: &Value) -> String {
    match value.kind() {
        ValueKind::String => "text".into(),
        ValueKind::Map => "map".into(),
        _ if is_tuple(value) => "tuple".into(),
        _ if is_view(value) => "range or view".into(),
        ValueKind::Seq | ValueKind::Iterable => "list".into(),
        kind => kind.to_string(),
    }
}

fn separate(out: &mut String, index: usize) {
    if index > 0 {
        out.push_str(", ");
    }
}

/// `value` if it is a float; None for integers.
pub fn float(value: &Value) -> Option<f64> {
    if value.kind() == ValueKind::Number && !value.is_integer() {
        f64::try_from(value.clone()).ok()
    } else {
        None
    }
}

/// `repr(number)`: the shortest digits, with an exponent below 1e-4 and from 1e16.
pub fn float_repr(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0. { "inf".into() } else { "-inf".into() };
    }
    let magnitude = number.abs();
    if magnitude != 0. && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = number.to_string();
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}

/// `repr(text)`.
fn write_quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c => out.push_str(&escaped(c)),
        }
    }
    out.push(quote);
}

/// The escape of a character in a `repr`.
pub fn escaped(c: char) -> String {
    let code = c as u32;
    match code {
        0..=0xff => format!("\\x{code:02x}"),
        0x100..=0xffff => format!("\\u{code:04x}"),
        _ => format!("\\U{code:08x}"),
    }
}

/// `str.isprintable`, for the characters that are not: controls, formats, spaces, private use.
fn is_printable(c: char) -> bool {
    let hidden = matches!(c,
        '\u{00a0}' | '\u{00ad}' | '\u{0600}'..='\u{0605}' | '\u{061c}' | '\u{06dd}' | '\u{070f}'
        | '\u{1680}' | '\u{180e}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
        | '\u{205f}'..='\u{206f}' | '\u{3000}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}'
        | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}' | '\u{e0000}'..='\u{10ffff}');
    !c.is_control() && !hidden
}

/// `repr` of a range or a view; None for other values.
fn view_repr(value: &Value) -> Result<Option<String>, Error> {
    if let Some(MapView { method, items }) = value.downcast_object_ref() {
        return Ok(Some(format!("dict_{method}({})", repr_of(&Value::from(items.clone()))?)));
    }
    Ok(value.downcast_object_ref().map(|Range { start, stop, step, .. }| match step {
        1 => format!("range({start}, {stop})"),
        step => format!("range({start}, {stop}, {step})"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_as_python_writes_them() {
        for (number, expected) in [
            (1., "1.0"),
            (0., "0.0"),
            (-0.5, "-0.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(float_repr(number), expected);
        }
    }

    #[test]
    fn lists_and_maps_as_python_writes_them() {
        let value = Value::from_serialize(serde_json::json!({
            "it's": [1, 2.0, null, true, "a\n\"b\"", "it's"],
            "é": {},
        }));
        let expected = r#"{"it's": [1, 2.0, None, True, 'a\n"b"', "it's"], 'é': {}}"#;
        assert_eq!(str_of(&value).unwrap(), expected);
    }
}
