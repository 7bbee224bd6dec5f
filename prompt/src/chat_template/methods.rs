//! Python's methods of texts, lists and maps.

use minijinja::value::{from_args, Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::budget::TextLimit;
use super::filters::{joined, padded, replace, title, Side};
use super::format::{check_format, shown};
use super::is_tests::is_cased;

/// The result of `value.method(arguments)`.
pub fn call(
    limit: TextLimit,
    state: &State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let is_list = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    match (value.as_str(), method) {
        (Some(_), "replace") => {
            let (from, to, count): (Value, Value, Option<i64>) = from_args(arguments)?;
            replace(limit, state, value, &from, &to, count).map(Value::from)
        }
        (Some(separator), "join") => {
            let (items,): (Value,) = from_args(arguments)?;
            joined(limit, state, separator, &items).map(Value::from)
        }
        (Some(text), "format") => {
            check_format(limit, state, text, arguments)?;
            let arguments: Vec<Value> = arguments.iter().map(shown).collect::<Result<_, _>>()?;
            unknown_method_callback(state, value, method, &arguments)
        }
        (Some(text), _) => match of_text(text, method, arguments)? {
            Some(result) => Ok(result),
            None => unknown_method_callback(state, value, method, arguments),
        },
        (None, "count" | "index") if is_list => {
            let (wanted,): (Value,) = from_args(arguments)?;
            let mut items = value.try_iter()?;
            match method {
                "count" => Ok(Value::from(items.filter(|item| *item == wanted).count())),
                _ => items.position(|item| item == wanted).map(Value::from).ok_or_else(not_found),
            }
        }
        _ => unknown_method_callback(state, value, method, arguments),
    }
}

/// Methods of `str` that minijinja's own set lacks. None for others.
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
            texts(&match text.split_once(separator) {
                Some((before, after)) => [before, separator, after],
                None => [text, "", ""],
            })
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            texts(&match text.rsplit_once(separator) {
                Some((before, after)) => [before, separator, after],
                None => ["", "", text],
            })
        }
        "find" | "rfind" => {
            let (wanted,): (&str,) = from_args(arguments)?;
            Value::from(place(text, wanted, method).map_or(-1, |place| place as i64))
        }
        "islower" => Value::from(is_cased(text, char::is_lowercase, char::is_uppercase)),
        "isupper" => Value::from(is_cased(text, char::is_uppercase, char::is_lowercase)),
        "isalnum" | "isalpha" | "isdigit" | "isnumeric" | "isspace" if text.is_empty() => {
            Value::from(false)
        }
        "split" | "rsplit" => split(text, method, arguments)?,
        "title" => Value::from(title(text, |before| !before.is_alphabetic())),
        "swapcase" => Value::from(text.chars().flat_map(swapped).collect::<String>()),
        "ljust" => pad(text, arguments, Side::Right)?,
        "rjust" => pad(text, arguments, Side::Left)?,
        "center" => pad(text, arguments, Side::Both)?,
        "zfill" => zfill(text, arguments)?,
        "index" | "rindex" => {
            let (wanted,): (&str,) = from_args(arguments)?;
            Value::from(place(text, wanted, method).ok_or_else(not_found)?)
        }
        _ => return Ok(None),
    };
    Ok(Some(result))
}

/// Where `wanted` is in `text`, in characters: the first place, or the last for methods that begin with `r`.
fn place(text: &str, wanted: &str, method: &str) -> Option<usize> {
    let found = if method.starts_with('r') { text.rfind(wanted) } else { text.find(wanted) };
    found.map(|found| text[..found].chars().count())
}

/// `text.split(sep, maxsplit)`, or from the right. Without a separator at runs of white space.
fn split(text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (separator, most, options): (Option<Value>, Option<i64>, Kwargs) = from_args(arguments)?;
    let separator =
        separator.map_or_else(|| options.get("sep"), |separator| Ok(Some(separator)))?;
    let most = most.map_or_else(|| options.get("maxsplit"), |most| Ok(Some(most)))?;
    options.assert_all_used()?;
    let most = most.and_then(|most: i64| usize::try_from(most).ok()).unwrap_or(usize::MAX - 1);
    let from_right = method == "rsplit";
    let mut parts: Vec<&str> = match separator.as_ref().and_then(|separator| separator.as_str()) {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) if from_right => text.rsplitn(most + 1, separator).collect(),
        Some(separator) => text.splitn(most + 1, separator).collect(),
        None => words(text, most, from_right),
    };
    if from_right {
        parts.reverse();
    }
    Ok(texts(&parts))
}

/// The words of a text, the last `most` of them separated if `from_right`, and then in reverse order; what is left over
/// is one part.
fn words(text: &str, most: usize, from_right: bool) -> Vec<&str> {
    let mut rest = if from_right { text.trim_end() } else { text.trim_start() };
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let end = match from_right {
            true => rest.rfind(char::is_whitespace),
            false => rest.find(char::is_whitespace),
        };
        match end.filter(|_| parts.len() < most) {
            Some(end) if from_right => {
                let (before, word) = rest.split_at(end);
                parts.push(word.trim_start());
                rest = before.trim_end();
            }
            Some(end) => {
                let (word, after) = rest.split_at(end);
                parts.push(word);
                rest = after.trim_start();
            }
            None => {
                parts.push(rest);
                break;
            }
        }
    }
    parts
}

/// `text.ljust(width, fill)` and its like.
fn pad(text: &str, arguments: &[Value], side: Side) -> Result<Value, Error> {
    let (width, fill): (usize, Option<char>) = from_args(arguments)?;
    padded(text, width, fill.unwrap_or(' '), side).map(Value::from)
}

/// `text.zfill(width)`: a sign stays in front.
fn zfill(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (width,): (usize,) = from_args(arguments)?;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = &text[..text.len() - digits.len()];
    let digits = padded(digits, width.saturating_sub(sign.len()), '0', Side::Left)?;
    Ok(Value::from(format!("{sign}{digits}")))
}

fn swapped(c: char) -> Vec<char> {
    match c.is_lowercase() {
        true => c.to_uppercase().collect(),
        false => c.to_lowercase().collect(),
    }
}

fn texts(texts: &[&str]) -> Value {
    Value::from_iter(texts.iter().map(|text| Value::from(*text)))
}

fn not_found() -> Error {
    Error::new(ErrorKind::InvalidOperation, "substring or item not found")
}
