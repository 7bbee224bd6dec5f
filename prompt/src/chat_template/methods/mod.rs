//! Python's methods of strings, lists and dicts.

mod cases;
mod search;
mod split;

use minijinja::value::{from_args, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::budget::TextLimit;
use super::filters::{joined, replace};
use super::format::brace_format;
use super::is_tests::is_cased;
use super::map_items::map_view;
use super::operators::equal;
use super::padding::{padded, too_wide, Side, MAX_WIDTH};
use super::tuple::tuple;
use super::whitespace::is_space;
pub use cases::capitalize;

/// The result of `value.method(arguments)`.
pub fn call(
    limit: TextLimit,
    state: &State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let is_list = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    let is_map = value.kind() == ValueKind::Map;
    match (value.as_str(), method) {
        (Some(_), "replace") => {
            let (from, to, count): (Value, Value, Option<i64>) = from_args(arguments)?;
            replace(limit, state, value, &from, &to, count).map(Value::from)
        }
        (Some(separator), "join") => {
            let (items,): (Value,) = from_args(arguments)?;
            joined(limit, state, separator, &items).map(Value::from)
        }
        (Some(text), "format") => brace_format(limit, state, text, arguments).map(Value::from),
        (Some(text), "expandtabs") => expandtabs(limit, state, text, arguments).map(Value::from),
        (Some(text), _) => match of_text(text, method, arguments)? {
            Some(result) => Ok(result),
            None => unknown_method_callback(state, value, method, arguments),
        },
        (None, "count" | "index") if is_list => {
            let (wanted,): (Value,) = from_args(arguments)?;
            let mut items = value.try_iter()?;
            match method {
                "count" => Ok(Value::from(items.filter(|item| equal(item, &wanted)).count())),
                _ => {
                    let place = items.position(|item| equal(&item, &wanted));
                    place.map(Value::from).ok_or_else(not_found)
                }
            }
        }
        (None, "keys" | "values" | "items") if is_map => {
            let () = from_args(arguments)?;
            map_view(value, method)
        }
        // Values are immutable, so a copy is the value itself.
        (None, "copy") if is_list || is_map => {
            let () = from_args(arguments)?;
            Ok(value.clone())
        }
        _ => unknown_method_callback(state, value, method, arguments),
    }
}

/// Methods of `str` that minijinja does not have, or implements differently. None for others.
fn of_text(text: &str, method: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    let result = match method {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            tuple_of_texts(match text.split_once(separator) {
                Some((before, after)) => [before, separator, after],
                None => [text, "", ""],
            })
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            tuple_of_texts(match text.rsplit_once(separator) {
                Some((before, after)) => [before, separator, after],
                None => ["", "", text],
            })
        }
        "strip" | "lstrip" | "rstrip" => Value::from(strip(text, method, arguments)?),
        "find" | "rfind" | "index" | "rindex" => search::find(text, method, arguments)?,
        "count" => search::count(text, arguments)?,
        "startswith" | "endswith" => search::has_affix(text, method, arguments)?,
        "split" | "rsplit" => split::split(text, method, arguments)?,
        "splitlines" => split::splitlines(text, arguments)?,
        "ljust" => pad(text, arguments, Side::Right)?,
        "rjust" => pad(text, arguments, Side::Left)?,
        "center" => pad(text, arguments, Side::Both)?,
        "zfill" => zfill(text, arguments)?,
        _ => return without_arguments(text, method, arguments),
    };
    Ok(Some(result))
}

/// As [`of_text`], for methods without arguments.
fn without_arguments(
    text: &str,
    method: &str,
    arguments: &[Value],
) -> Result<Option<Value>, Error> {
    let result = match method {
        "islower" => Value::from(is_cased(text, char::is_lowercase, char::is_uppercase)),
        "isupper" => Value::from(is_cased(text, char::is_uppercase, char::is_lowercase)),
        "istitle" => Value::from(cases::is_title(text)),
        "isspace" => Value::from(!text.is_empty() && text.chars().all(is_space)),
        "isalnum" | "isalpha" | "isdigit" | "isnumeric" if text.is_empty() => Value::from(false),
        "title" => Value::from(cases::title(text)),
        "capitalize" => Value::from(cases::capitalize(text)),
        "casefold" => Value::from(cases::casefold(text)),
        "swapcase" => Value::from(cases::swapcase(text)),
        _ => return Ok(None),
    };
    let () = from_args(arguments)?;
    Ok(Some(result))
}

/// `text.strip(characters)`, `lstrip` or `rstrip`.
fn strip<'a>(text: &'a str, method: &str, arguments: &[Value]) -> Result<&'a str, Error> {
    let (characters,): (Option<Value>,) = from_args(arguments)?;
    let characters = characters.as_ref().and_then(|characters| characters.as_str());
    let goes = |c: char| characters.map_or(is_space(c), |characters| characters.contains(c));
    Ok(match method {
        "lstrip" => text.trim_start_matches(goes),
        "rstrip" => text.trim_end_matches(goes),
        _ => text.trim_matches(goes),
    })
}

/// `text.expandtabs(size)`.
fn expandtabs(
    limit: TextLimit,
    state: &State,
    text: &str,
    arguments: &[Value],
) -> Result<String, Error> {
    let (size,): (Option<usize>,) = from_args(arguments)?;
    let size = size.unwrap_or(8);
    if size > MAX_WIDTH {
        return Err(too_wide());
    }
    limit
        .check(text.len().saturating_add(text.matches('\t').count().saturating_mul(size)), state)?;
    let mut expanded = String::new();
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' => {
                let spaces = if size == 0 { 0 } else { size - column % size };
                expanded.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            c => {
                expanded.push(c);
                column = if c == '\n' || c == '\r' { 0 } else { column + 1 };
            }
        }
    }
    Ok(expanded)
}

/// `text.ljust(width, fill)`, `rjust` or `center`.
fn pad(text: &str, arguments: &[Value], side: Side) -> Result<Value, Error> {
    let (width, fill): (usize, Option<char>) = from_args(arguments)?;
    padded(text, width, fill.unwrap_or(' '), side).map(Value::from)
}

/// `text.zfill(width)`. Zeros go after a sign.
fn zfill(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (width,): (usize,) = from_args(arguments)?;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = &text[..text.len() - digits.len()];
    let digits = padded(digits, width.saturating_sub(sign.len()), '0', Side::Left)?;
    Ok(Value::from(format!("{sign}{digits}")))
}

fn tuple_of_texts(texts: [&str; 3]) -> Value {
    tuple(texts.iter().map(|text| Value::from(*text)).collect())
}

fn texts(texts: &[&str]) -> Value {
    Value::from_iter(texts.iter().map(|text| Value::from(*text)))
}

fn not_found() -> Error {
    Error::new(ErrorKind::InvalidOperation, "substring or item not found")
}
