//! Filters on numbers.

use minijinja::value::{from_args, Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};

use super::super::whitespace::is_space;
use super::arguments::argument;

pub fn add_to(env: &mut Environment<'static>) {
    env.add_filter("round", |value: Value, arguments: Rest<Value>| round(value, &arguments));
    env.add_filter("int", |value: Value, arguments: Rest<Value>| int(&value, &arguments));
    env.add_filter("float", |value: Value, default: Option<Value>| {
        let default = default.unwrap_or_else(|| Value::from(0.));
        number(&value).map_or(default, Value::from)
    });
}

/// A number, or the number in a string.
fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some(text) => without_underscores(text.trim_matches(is_space))?.parse().ok(),
        None => f64::try_from(value.clone()).ok(),
    }
}

/// A number without the underscores that Python allows between digits.
fn without_underscores(text: &str) -> Option<String> {
    let is_digit = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut digits = String::new();
    for (index, c) in text.char_indices() {
        match c {
            '_' if !is_digit(text[..index].chars().next_back()) => return None,
            '_' if !is_digit(text[index + 1..].chars().next()) => return None,
            '_' => {}
            c => digits.push(c),
        }
    }
    Some(digits)
}

/// Rounds halves to even. Integers are unchanged.
fn round(value: Value, arguments: &[Value]) -> Result<Value, Error> {
    let (precision, method, options): (Option<Value>, Option<Value>, Kwargs) =
        from_args(arguments)?;
    let precision = argument(precision, &options, "precision")?;
    let precision = precision.map_or(Ok(0), i32::try_from)?;
    let method = argument(method, &options, "method")?;
    options.assert_all_used()?;
    let number = f64::try_from(value.clone())?;
    let scale = 10f64.powi(precision);
    match method.as_ref().and_then(|method| method.as_str()) {
        None | Some("common") if value.is_integer() && precision >= 0 => Ok(value),
        None | Some("common") if value.is_integer() => {
            Ok(Value::from(rounded(number, precision) as i64))
        }
        None | Some("common") => Ok(rounded(number, precision).into()),
        Some("ceil") => Ok(((number * scale).ceil() / scale).into()),
        Some("floor") => Ok(((number * scale).floor() / scale).into()),
        Some(_) => {
            let message = "round: expected common, ceil or floor";
            Err(Error::new(ErrorKind::InvalidOperation, message))
        }
    }
}

/// Rounds to `precision` decimal digits. Formatting is used because its digits are exact.
fn rounded(number: f64, precision: i32) -> f64 {
    match usize::try_from(precision) {
        Ok(digits) if digits <= 17 => format!("{number:.digits$}").parse().unwrap_or(number),
        Ok(_) => number,
        Err(_) => {
            let scale = 10f64.powi(-precision);
            (number / scale).round_ties_even() * scale
        }
    }
}

/// The integer of a value or a string in a base; `default` if there is none.
fn int(value: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let (default, base, options): (Option<Value>, Option<Value>, Kwargs) = from_args(arguments)?;
    let default = argument(default, &options, "default")?.unwrap_or_else(|| Value::from(0));
    let base = argument(base, &options, "base")?.map_or(Ok(10), u32::try_from)?;
    options.assert_all_used()?;
    match value.kind() {
        ValueKind::Number if value.is_integer() => return Ok(value.clone()),
        ValueKind::Bool => return Ok(Value::from(i32::from(value.is_true()))),
        _ => {}
    }
    if let Some(number) = value.as_str().and_then(|text| whole_number(text, base)) {
        return Ok(Value::from(number));
    }
    match number(value).filter(|number| number.is_finite()) {
        Some(number) if number.abs() < 1e38 => Ok(Value::from(number.trunc() as i128)),
        Some(_) => {
            let message = "int: a whole number is too large: expected less than 1e38";
            Err(Error::new(ErrorKind::InvalidOperation, message))
        }
        None => Ok(default),
    }
}

/// `int(text, base)`.
fn whole_number(text: &str, base: u32) -> Option<i128> {
    let text = text.trim_matches(is_space);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_negative = text.starts_with('-');
    let prefix = match base {
        2 => ["0b", "0B"],
        8 => ["0o", "0O"],
        16 => ["0x", "0X"],
        _ => ["", ""],
    };
    let digits = prefix.iter().find_map(|prefix| digits.strip_prefix(prefix)).unwrap_or(digits);
    // Rust would accept a second sign.
    if !(2..=36).contains(&base) || digits.starts_with(['+', '-']) {
        return None;
    }
    let number = i128::from_str_radix(&without_underscores(digits)?, base).ok()?;
    Some(if is_negative { -number } else { number })
}
