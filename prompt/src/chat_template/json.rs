//! The filter `tojson`: Python's `json.dumps`, as transformers calls it.

use std::fmt::Write;

use minijinja::value::{from_args, Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::budget::{limit_error, TextLimit};
use super::python::{float, float_repr, kind_name};
use super::views::is_view;

/// The largest indent, in spaces.
const MAX_INDENT: usize = 32;

/// `json.dumps(value, ensure_ascii, indent, separators, sort_keys)`. Nothing is escaped for HTML.
pub fn tojson(limit: TextLimit, value: &Value, arguments: &[Value]) -> Result<String, Error> {
    type Arguments = (Option<Value>, Option<Value>, Option<Value>, Option<Value>, Kwargs);
    let (ascii, spaces, pair, sorted, options): Arguments = from_args(arguments)?;
    let argument = |positional: Option<Value>, name: &str| {
        let given = positional.map_or_else(|| options.get(name), |value| Ok(Some(value)));
        given.map(|value: Option<Value>| value.filter(|value| !value.is_none()))
    };
    let indent = argument(spaces, "indent")?.map(|value| indent(&value)).transpose()?;
    let pair = argument(pair, "separators")?;
    let texts =
        |pair: Value| pair.try_iter().map(|texts| texts.map(|text| text.to_string()).collect());
    let separators: Option<Vec<String>> = pair.map(texts).transpose()?;
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let (ascii, sorted) =
        (is_true(argument(ascii, "ensure_ascii")?), is_true(argument(sorted, "sort_keys")?));
    options.assert_all_used()?;
    let (item, key) = match separators.as_deref() {
        None if indent.is_some() => (",".to_string(), ": ".to_string()),
        None => (", ".to_string(), ": ".to_string()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            let message = "tojson: expected two texts as `separators`";
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
    };
    let mut writer = Dumps { out: String::new(), indent, item, key, ascii, sorted, limit };
    writer.value(value, 1)?;
    Ok(writer.out)
}

/// The indent of a level: a number of spaces, or a string.
fn indent(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str().filter(|text| text.len() <= MAX_INDENT) {
        return Ok(text.to_string());
    }
    match value.as_usize() {
        Some(spaces) if spaces <= MAX_INDENT => Ok(" ".repeat(spaces)),
        _ => Err(limit_error(format!("tojson: expected an `indent` of at most {MAX_INDENT}"))),
    }
}

struct Dumps {
    out: String,
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
    limit: TextLimit,
}

impl Dumps {
    fn value(&mut self, value: &Value, level: usize) -> Result<(), Error> {
        match value.kind() {
            _ if is_view(value) || is_namespace(value) => {
                let message = format!("tojson: a value of type {} is not JSON", kind_name(value));
                return Err(Error::new(ErrorKind::BadSerialization, message));
            }
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => self.list(value, level)?,
            ValueKind::Map => self.map(value, level)?,
            kind => {
                let message = format!("tojson: a value of type {kind} is not JSON");
                return Err(Error::new(ErrorKind::BadSerialization, message));
            }
        }
        // The check of the filter's result counts the whole string.
        self.limit.fits(self.out.len())
    }

    fn number(&mut self, value: &Value) {
        match float(value) {
            None => write!(self.out, "{value}").unwrap_or_default(),
            Some(number) if number.is_nan() => self.out.push_str("NaN"),
            Some(f64::INFINITY) => self.out.push_str("Infinity"),
            Some(f64::NEG_INFINITY) => self.out.push_str("-Infinity"),
            Some(number) => self.out.push_str(&float_repr(number)),
        }
    }

    fn list(&mut self, list: &Value, level: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut items = 0;
        for (index, item) in list.try_iter()?.enumerate() {
            self.before_item(index, level);
            self.value(&item, level + 1)?;
            items = index + 1;
        }
        self.end(items, level, ']');
        Ok(())
    }

    fn map(&mut self, map: &Value, level: usize) -> Result<(), Error> {
        self.out.push('{');
        let mut keys: Vec<Value> = map.try_iter()?.collect();
        if self.sorted {
            keys.sort();
        }
        for (index, key) in keys.iter().enumerate() {
            self.before_item(index, level);
            match key.kind() {
                ValueKind::String => self.string(key.as_str().unwrap_or_default()),
                ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                    self.out.push('"');
                    self.value(key, level)?;
                    self.out.push('"');
                }
                kind => {
                    let message = format!("tojson: a key of type {kind} is not JSON");
                    return Err(Error::new(ErrorKind::BadSerialization, message));
                }
            }
            self.out.push_str(&self.key);
            self.value(&map.get_item(key)?, level + 1)?;
        }
        self.end(keys.len(), level, '}');
        Ok(())
    }

    fn before_item(&mut self, index: usize, level: usize) {
        if index > 0 {
            self.out.push_str(&self.item);
        }
        self.new_line(level);
    }

    fn end(&mut self, items: usize, level: usize, bracket: char) {
        if items > 0 {
            self.new_line(level - 1);
        }
        self.out.push(bracket);
    }

    fn new_line(&mut self, level: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            (0..level).for_each(|_| self.out.push_str(indent));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(self.out, "\\u{unit:04x}").unwrap_or_default();
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// Whether `value` was created by `namespace()`, whose type minijinja does not export.
fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}
