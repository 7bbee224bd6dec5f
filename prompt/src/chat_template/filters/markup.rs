//! Filters for HTML and URLs.

use std::fmt::Write;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::super::budget::TextLimit;
use super::super::map_items::pairs;
use super::super::python::str_of;
use super::super::whitespace::is_space;

pub fn add_to(env: &mut Environment<'static>, limit: TextLimit) {
    for name in ["e", "escape", "forceescape"] {
        env.add_filter(name, |value: Value| escape(&value));
    }
    env.add_filter("urlencode", move |state: &State, value: Value| urlencode(limit, state, &value));
    env.add_filter("xmlattr", move |state: &State, map: Value, space: Option<bool>| {
        xmlattr(limit, state, &map, space.unwrap_or(true))
    });
}

fn escape(value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    for c in str_of(value)?.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '\'' => text.push_str("&#39;"),
            '"' => text.push_str("&#34;"),
            c => text.push(c),
        }
    }
    Ok(text)
}

/// The attributes of an element, with a leading space if there are any.
fn xmlattr(limit: TextLimit, state: &State, map: &Value, space: bool) -> Result<String, Error> {
    let mut text = String::new();
    for pair in pairs(map)? {
        let (key, value) = (pair.get_item_by_index(0)?, pair.get_item_by_index(1)?);
        if value.is_none() || value.is_undefined() {
            continue;
        }
        let name = str_of(&key)?;
        if name.contains(|c| is_space(c) || "/>=".contains(c)) {
            let message = format!("xmlattr: {name:?} is not the name of an attribute");
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
        if space || !text.is_empty() {
            text.push(' ');
        }
        write!(text, "{}=\"{}\"", escape(&key)?, escape(&value)?).ok();
        limit.fits(text.len())?;
    }
    limit.check(text.len(), state)?;
    Ok(text)
}

/// Quotes a string for a URL. A map or a list of pairs becomes a query.
fn urlencode(limit: TextLimit, state: &State, value: &Value) -> Result<String, Error> {
    let pairs = match value.kind() {
        ValueKind::Map => pairs(value)?,
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.collect(),
        _ => {
            let text = quoted(&str_of(value)?, "/");
            limit.check(text.len(), state)?;
            return Ok(text);
        }
    };
    let mut text = String::new();
    for pair in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        for (index, behind) in [(0, "="), (1, "")] {
            let part = str_of(&pair.get_item_by_index(index)?)?;
            text.push_str(&quoted(&part, " ").replace(' ', "+"));
            text.push_str(behind);
        }
        limit.fits(text.len())?;
    }
    limit.check(text.len(), state)?;
    Ok(text)
}

/// `text` with percent encoding of everything but letters, digits, `_.-~` and `safe`.
fn quoted(text: &str, safe: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "_.-~".contains(c) || safe.contains(c) {
            quoted.push(c)
        } else {
            write!(quoted, "%{byte:02X}").unwrap_or_default()
        }
    }
    quoted
}
