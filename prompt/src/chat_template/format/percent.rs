//! Python's `%` for strings.

use minijinja::value::ValueKind;
use minijinja::{Error, FormatStyle, State, Value};

use super::super::budget::TextLimit;
use super::super::padding::{too_wide, Side, MAX_WIDTH};
use super::super::python::{ascii_repr, kind_name, repr_of, str_of};
use super::super::tuple::is_tuple;
use super::{cut_and_padded, invalid, leading_number, number};

/// `text % values`. A tuple gives several values, a map gives named values.
pub fn percent_format(
    limit: TextLimit,
    state: &State,
    text: &str,
    values: &Value,
) -> Result<String, Error> {
    let by_name = (values.kind() == ValueKind::Map).then_some(values);
    let positional =
        if is_tuple(values) { values.try_iter()?.collect() } else { vec![values.clone()] };
    // Python requires that all values are used only for tuples and single values.
    let is_list =
        matches!(values.kind(), ValueKind::Seq | ValueKind::Iterable) && !is_tuple(values);
    let may_be_left = is_list || values.is_undefined() || by_name.is_some();
    Values { positional: positional.into_iter(), by_name, may_be_left }.format(limit, state, text)
}

/// `text|format(values)`.
pub fn filter_format(
    limit: TextLimit,
    state: &State,
    text: &str,
    values: &[Value],
) -> Result<String, Error> {
    let by_name = values.first().filter(|values| values.is_kwargs());
    let positional = Vec::from(values).into_iter();
    Values { positional, by_name, may_be_left: by_name.is_some() }.format(limit, state, text)
}

struct Values<'a> {
    positional: std::vec::IntoIter<Value>,
    by_name: Option<&'a Value>,
    /// Whether values may remain unused.
    may_be_left: bool,
}

/// A conversion: `%(name)flags width.precision letter`.
struct Place<'a> {
    flags: &'a str,
    width: Option<usize>,
    precision: Option<usize>,
    letter: char,
}

impl Values<'_> {
    fn format(mut self, limit: TextLimit, state: &State, text: &str) -> Result<String, Error> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, place)) = rest.split_once('%') {
            out.push_str(before);
            rest = self.place(&mut out, place)?;
            limit.fits(out.len())?;
        }
        out.push_str(rest);
        limit.check(out.len(), state)?;
        if !self.may_be_left && self.positional.next().is_some() {
            Err(invalid("a format has fewer conversions than values".into()))
        } else {
            Ok(out)
        }
    }

    fn next(&mut self) -> Result<Value, Error> {
        self.positional
            .next()
            .ok_or_else(|| invalid("a format has more conversions than values".into()))
    }

    /// Writes the conversion at the beginning of `text`. Returns the rest.
    fn place<'a>(&mut self, out: &mut String, text: &'a str) -> Result<&'a str, Error> {
        let (name, text) = match text.strip_prefix('(').map(|name| name.split_once(')')) {
            Some(None) => return Err(invalid("a format has no `)` after `%(`".into())),
            Some(Some((name, text))) => (Some(name), text),
            None => (None, text),
        };
        let end = text.find(|c| !"-+ #0".contains(c)).unwrap_or(text.len());
        let (flags, text) = text.split_at(end);
        let (width, text) = self.width(text)?;
        let (precision, text) = match text.strip_prefix('.') {
            Some(text) => {
                let (precision, text) = self.width(text)?;
                (Some(precision.unwrap_or(0)), text)
            }
            None => (None, text),
        };
        let text = text.trim_start_matches(['h', 'l', 'L']);
        let mut rest = text.chars();
        let letter =
            rest.next().ok_or_else(|| invalid("a format ends within a conversion".into()))?;
        if letter == '%' {
            out.push('%');
            return Ok(rest.as_str());
        }
        let value = match (name, self.by_name) {
            (Some(name), Some(map)) => {
                let value = map.as_object().and_then(|map| map.get_value(&Value::from(name)));
                value.ok_or_else(|| invalid(format!("a format has no value for `{name}`")))?
            }
            (Some(_), None) => return Err(invalid("a format with names needs a map".into())),
            (None, _) => self.next()?,
        };
        out.push_str(&Place { flags, width, precision, letter }.format(&value)?);
        Ok(rest.as_str())
    }

    /// A width or precision: a number, or `*`, which takes it from the values.
    fn width<'a>(&mut self, text: &'a str) -> Result<(Option<usize>, &'a str), Error> {
        let Some(rest) = text.strip_prefix('*') else { return leading_number(text) };
        match self.next()?.as_usize() {
            Some(width) if width <= MAX_WIDTH => Ok((Some(width), rest)),
            _ => Err(too_wide()),
        }
    }
}

impl Place<'_> {
    fn format(&self, value: &Value) -> Result<String, Error> {
        let text = match self.letter {
            's' => str_of(value)?,
            'r' => repr_of(value)?,
            'a' => ascii_repr(value)?,
            'c' => character(value)?,
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                return self.number(value)
            }
            other => return Err(invalid(format!("a format has no letter `{other}`"))),
        };
        let side = if self.flags.contains('-') { Side::Right } else { Side::Left };
        let precision = self.precision.filter(|_| self.letter != 'c');
        cut_and_padded(&text, precision, self.width.unwrap_or(0), ' ', side)
    }

    fn number(&self, value: &Value) -> Result<String, Error> {
        if !matches!(value.kind(), ValueKind::Number | ValueKind::Bool) {
            let message = format!("`%{}` needs a number, not {}", self.letter, kind_name(value));
            return Err(invalid(message));
        }
        let is_float = value.kind() == ValueKind::Number && !value.is_integer();
        let value = match self.letter {
            'd' | 'i' | 'u' if is_float => truncated(value)?,
            'x' | 'X' | 'o' if is_float => {
                return Err(invalid(format!("`%{}` needs a whole number", self.letter)))
            }
            _ => value.clone(),
        };
        let width = self.width.map_or(String::new(), |width| width.to_string());
        let precision = self.precision.map_or(String::new(), |digits| format!(".{digits}"));
        let letter = if self.letter == 'u' { 'd' } else { self.letter };
        let format = format!("%{}{width}{precision}{letter}", self.flags);
        number(FormatStyle::Printf, &format, &value)
    }
}

/// The integer part of a number.
fn truncated(value: &Value) -> Result<Value, Error> {
    match f64::try_from(value.clone()) {
        Ok(number) if number.abs() < 1e38 => Ok(Value::from(number.trunc() as i128)),
        _ => Err(invalid("`%d` of a number that is too large or NaN".into())),
    }
}

/// A string of one character, or the character with a code.
fn character(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str().filter(|text| text.chars().count() == 1) {
        return Ok(text.to_string());
    }
    let code = value.as_usize().and_then(|code| u32::try_from(code).ok());
    let character = code.and_then(char::from_u32).map(String::from);
    character.ok_or_else(|| invalid("`%c` needs one character".into()))
}
