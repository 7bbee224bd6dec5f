//! Python's `str.format`.

use minijinja::value::ValueKind;
use minijinja::{Error, FormatStyle, State, Value};

use super::super::budget::TextLimit;
use super::super::padding::Side;
use super::super::python::{ascii_repr, kind_name, repr_of, str_of};
use super::{cut_and_padded, invalid, leading_number, number};

/// `text.format(arguments)`.
pub fn brace_format(
    limit: TextLimit,
    state: &State,
    text: &str,
    arguments: &[Value],
) -> Result<String, Error> {
    let mut format = Format { limit, arguments, next: 0, has_numbers: false };
    let out = format.text(text, 2)?;
    limit.check(out.len(), state)?;
    Ok(out)
}

struct Format<'a> {
    limit: TextLimit,
    arguments: &'a [Value],
    /// The index of the next argument for fields without a name.
    next: usize,
    /// Whether a field is numbered. Then all must be.
    has_numbers: bool,
}

impl Format<'_> {
    /// `text` with its replacement fields filled. A format spec may contain fields as well, up to `levels` deep.
    fn text(&mut self, text: &str, levels: usize) -> Result<String, Error> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(['{', '}']) {
            out.push_str(&rest[..start]);
            let (brace, after) = rest[start..].split_at(1);
            rest = match after.strip_prefix(brace) {
                Some(after) => {
                    out.push_str(brace);
                    after
                }
                None if brace == "{" && levels > 0 => {
                    let (place, after) = after.split_at(place_end(after)?);
                    out.push_str(&self.place(place, levels)?);
                    &after[1..]
                }
                None => return Err(invalid("a format has a single brace".into())),
            };
            self.limit.fits(out.len())?;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// The text of the replacement field `{field!conversion:spec}`.
    fn place(&mut self, place: &str, levels: usize) -> Result<String, Error> {
        let (field, spec) = split_outside_brackets(place, ':');
        let (field, conversion) = split_outside_brackets(field, '!');
        let value = self.value(field)?;
        let spec = self.text(spec.unwrap_or_default(), levels - 1)?;
        let value = match conversion {
            None => value,
            Some("s") => Value::from(str_of(&value)?),
            Some("r") => Value::from(repr_of(&value)?),
            Some("a") => Value::from(ascii_repr(&value)?),
            Some(other) => return Err(invalid(format!("a format has no conversion `{other}`"))),
        };
        formatted(&value, &spec)
    }

    /// The value of a field name: `0`, `name`, or empty for the next argument, followed by `.name` and `[key]`.
    fn value(&mut self, field: &str) -> Result<Value, Error> {
        let (first, mut rest) = field.split_at(field.find(['.', '[']).unwrap_or(field.len()));
        let missing = || invalid(format!("a format has no value for `{first}`"));
        let place = match first {
            "" => {
                self.next += 1;
                Some(self.next - 1)
            }
            first => first.parse().ok(),
        };
        self.has_numbers |= !first.is_empty() && place.is_some();
        if self.has_numbers && self.next > 0 {
            return Err(invalid("a format has fields with and without numbers".into()));
        }
        let positional = |argument: &&Value| !argument.is_kwargs();
        let mut value =
            match place {
                Some(place) => self.arguments.get(place).filter(positional).cloned(),
                None => self.arguments.last().filter(|last| last.is_kwargs()).and_then(|named| {
                    named.get_attr(first).ok().filter(|value| !value.is_undefined())
                }),
            }
            .ok_or_else(missing)?;
        while !rest.is_empty() {
            let (key, after) = match rest.strip_prefix('[') {
                Some(inside) => inside.split_once(']').ok_or_else(missing)?,
                None => {
                    let name = &rest[1..];
                    name.split_at(name.find(['.', '[']).unwrap_or(name.len()))
                }
            };
            value = match key.parse::<usize>() {
                Ok(index) if rest.starts_with('[') => value.get_item(&Value::from(index))?,
                _ => value.get_attr(key)?,
            };
            rest = after;
        }
        Ok(value)
    }
}

/// The end of the replacement field at the beginning of `text`.
fn place_end(text: &str) -> Result<usize, Error> {
    let mut open = 0usize;
    for (index, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' if open == 0 => return Ok(index),
            '}' => open -= 1,
            _ => {}
        }
    }
    Err(invalid("a format has no `}` after `{`".into()))
}

/// Splits at `sign`, outside of brackets.
fn split_outside_brackets(text: &str, sign: char) -> (&str, Option<&str>) {
    let mut inside = false;
    for (index, c) in text.char_indices() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            c if c == sign && !inside => return (&text[..index], Some(&text[index + 1..])),
            _ => {}
        }
    }
    (text, None)
}

/// `format(value, spec)`.
fn formatted(value: &Value, spec: &str) -> Result<String, Error> {
    if spec.is_empty() {
        return str_of(value);
    }
    match value.kind() {
        ValueKind::String => text(value.as_str().unwrap_or_default(), spec),
        ValueKind::Number | ValueKind::Bool => match spec.strip_suffix('%') {
            Some(spec) => percentage(value, spec),
            None => {
                let is_float = value.kind() == ValueKind::Number && !value.is_integer();
                let spec = match spec.strip_suffix('n') {
                    Some(spec) => format!("{spec}{}", if is_float { 'g' } else { 'd' }),
                    None => spec.to_string(),
                };
                if !is_float
                    && spec.contains('.')
                    && !spec.ends_with(['e', 'E', 'f', 'F', 'g', 'G'])
                {
                    return Err(invalid("a format of a whole number has no precision".into()));
                }
                // Widths are checked here, everything else by minijinja.
                let (_, _, after) = alignment(&spec);
                leading_number(after.trim_start_matches(['+', '-', ' ', '#']))?;
                leading_number(after.split_once('.').map_or("", |(_, digits)| digits))?;
                number(FormatStyle::StrFormat, &format!("{{:{spec}}}"), value)
            }
        },
        _ => Err(invalid(format!(
            "the format `{spec}` does not apply to a value of type {}",
            kind_name(value)
        ))),
    }
}

/// The fill character and the alignment at the beginning of a spec `[[fill]align]..`, and the rest.
fn alignment(spec: &str) -> (char, Option<Side>, &str) {
    let side = |c: char| match c {
        '<' => Some(Side::Right),
        '>' | '=' => Some(Side::Left),
        '^' => Some(Side::Middle),
        _ => None,
    };
    let mut chars = spec.chars();
    let first = chars.next().unwrap_or(' ');
    let after_first = chars.as_str();
    if let Some(second) = chars.next().and_then(side) {
        return (first, Some(second), chars.as_str());
    }
    match side(first) {
        Some(side) => (' ', Some(side), after_first),
        None => (' ', None, spec),
    }
}

/// A string formatted by a spec `[[fill]align][0][width][.precision][s]`.
fn text(text: &str, spec: &str) -> Result<String, Error> {
    let (fill, side, rest) = alignment(spec);
    let fill = if side.is_none() && rest.starts_with('0') { '0' } else { fill };
    let (width, rest) = leading_number(rest)?;
    let (precision, rest) = match rest.strip_prefix('.') {
        Some(rest) => leading_number(rest)?,
        None => (None, rest),
    };
    match rest {
        "" | "s" => {
            cut_and_padded(text, precision, width.unwrap_or(0), fill, side.unwrap_or(Side::Right))
        }
        _ => Err(invalid(format!("the format `{spec}` does not apply to a text"))),
    }
}

/// A number formatted as a percentage by a spec `[[fill]align][sign][0][width][.precision]`.
fn percentage(value: &Value, spec: &str) -> Result<String, Error> {
    let (fill, side, rest) = alignment(spec);
    let (sign, rest) = rest.split_at(rest.len() - rest.trim_start_matches(['+', '-', ' ']).len());
    let fill = if side.is_none() && rest.starts_with('0') { '0' } else { fill };
    let (width, rest) = leading_number(rest)?;
    let (precision, rest) = match rest.strip_prefix('.') {
        Some(digits) => leading_number(digits)?,
        None => (None, rest),
    };
    if !rest.is_empty() {
        return Err(invalid(format!("the format `{spec}%` does not apply to a number")));
    }
    let hundredfold = f64::try_from(value.clone()).unwrap_or(value.is_true().into()) * 100.;
    let format = format!("{{:{sign}.{}f}}", precision.unwrap_or(6));
    let text = number(FormatStyle::StrFormat, &format, &Value::from(hundredfold))? + "%";
    cut_and_padded(&text, None, width.unwrap_or(0), fill, side.unwrap_or(Side::Left))
}
