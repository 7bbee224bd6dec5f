//! Methods that search a part of a string.

use minijinja::value::{from_args, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::not_found;

/// `text[start:end]` and its position in `text`, in characters. None if `start` is after the end.
fn part(text: &str, start: Option<i64>, end: Option<i64>) -> Option<(&str, usize)> {
    if start.is_none() && end.is_none() {
        return Some((text, 0));
    }
    let len = text.chars().count();
    let place = |bound: i64| match usize::try_from(bound) {
        Ok(place) => place,
        Err(_) => len.saturating_sub(bound.unsigned_abs() as usize),
    };
    let (start, end) = (place(start.unwrap_or(0)), end.map_or(len, place).min(len));
    let byte = |place: usize| text.char_indices().nth(place).map_or(text.len(), |(byte, _)| byte);
    (start <= end).then(|| (&text[byte(start)..byte(end)], start))
}

/// `text.find(wanted, start, end)`, or `rfind`, `index`, `rindex`.
pub fn find(text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (wanted, start, end): (&str, Option<i64>, Option<i64>) = from_args(arguments)?;
    let found = part(text, start, end).and_then(|(part, start)| {
        let found = if method.starts_with('r') { part.rfind(wanted) } else { part.find(wanted) };
        found.map(|found| start + part[..found].chars().count())
    });
    match found {
        Some(place) => Ok(Value::from(place)),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(not_found()),
    }
}

/// `text.count(wanted, start, end)`.
pub fn count(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (wanted, start, end): (&str, Option<i64>, Option<i64>) = from_args(arguments)?;
    let count = part(text, start, end).map_or(0, |(part, _)| part.matches(wanted).count());
    Ok(Value::from(count))
}

/// `text.startswith(affix, start, end)`, or `endswith`. The affix is a string or a tuple of strings.
pub fn has_affix(text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (affix, start, end): (Value, Option<i64>, Option<i64>) = from_args(arguments)?;
    let Some((part, _)) = part(text, start, end) else { return Ok(Value::from(false)) };
    let matches = |affix: &str| match method {
        "startswith" => part.starts_with(affix),
        _ => part.ends_with(affix),
    };
    let wrong = || {
        let message = format!("{method}: expected a text or a tuple of texts");
        Error::new(ErrorKind::InvalidOperation, message)
    };
    if let Some(affix) = affix.as_str() {
        return Ok(Value::from(matches(affix)));
    }
    if !matches!(affix.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Err(wrong());
    }
    for affix in affix.try_iter()? {
        if matches(affix.as_str().ok_or_else(wrong)?) {
            return Ok(Value::from(true));
        }
    }
    Ok(Value::from(false))
}
