//! Python's operators, where they differ from minijinja's.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::budget::TextLimit;
use super::format::format;
use super::python::write_str;
use super::rewrite::{CONCAT, ITEMS, PERCENT, SLICE};

/// Adds the functions that stand for operators to `env`. `limit` is that of every text.
pub fn add_to(env: &mut Environment<'static>, limit: TextLimit) {
    env.add_function(CONCAT, move |state: &State, a: Value, b: Value| concat(limit, state, &a, &b));
    env.add_function(PERCENT, move |state: &State, a: Value, b: Value, is_tuple: bool| {
        percent(limit, state, a, b, is_tuple)
    });
    env.add_function(SLICE, slice);
    env.add_filter(ITEMS, items);
}

/// `a ~ b`.
fn concat(limit: TextLimit, state: &State, a: &Value, b: &Value) -> Result<String, Error> {
    let mut text = String::new();
    write_str(&mut text, a)?;
    write_str(&mut text, b)?;
    limit.check(text.len(), state)?;
    Ok(text)
}

/// `a % b`: a remainder, or a format with its values; several if `b` is a tuple.
fn percent(
    limit: TextLimit,
    state: &State,
    a: Value,
    b: Value,
    is_tuple: bool,
) -> Result<Value, Error> {
    if let Some(text) = a.as_str() {
        let values: Vec<Value> = match b.kind() {
            ValueKind::Seq | ValueKind::Iterable if is_tuple => b.try_iter()?.collect(),
            ValueKind::Map if text.contains("%(") => vec![as_kwargs(&b)?],
            _ => vec![b],
        };
        return format(limit, state, text, &values).map(Value::from);
    }
    if a.is_integer() && b.is_integer() {
        let (a, b) = (i128::try_from(a)?, i128::try_from(b)?);
        let remainder = a.checked_rem(b).ok_or_else(|| invalid("division by zero".into()))?;
        // Python's has the sign of the divisor.
        let wrong_sign = remainder != 0 && (remainder < 0) != (b < 0);
        return Ok(Value::from(if wrong_sign { remainder + b } else { remainder }));
    }
    match (a.kind(), b.kind()) {
        (ValueKind::Number | ValueKind::Bool, ValueKind::Number | ValueKind::Bool) => {
            let (a, b) = (f64::try_from(a)?, f64::try_from(b)?);
            Ok(Value::from(a - b * (a / b).floor()))
        }
        (a, b) => Err(invalid(format!("% needs numbers or a text, not {a} and {b}"))),
    }
}

/// A map as values by name.
fn as_kwargs(map: &Value) -> Result<Value, Error> {
    let entry = |key: Value| Ok((key.to_string(), map.get_item(&key)?));
    let entries = map.try_iter()?.map(entry).collect::<Result<Vec<_>, Error>>()?;
    Ok(Value::from(Kwargs::from_iter(entries)))
}

/// The items of a loop; for a text, its characters.
fn items(value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => {
            let characters = value.as_str().unwrap_or_default().chars();
            Ok(characters.map(|c| Value::from(c.to_string())).collect::<Vec<_>>().into())
        }
        ValueKind::None | ValueKind::Bool | ValueKind::Number => {
            Err(invalid(format!("a {} is not iterable", value.kind())))
        }
        _ => Ok(value),
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// `value[start:stop:step]`.
fn slice(value: Value, start: Value, stop: Value, step: Value) -> Result<Value, Error> {
    let bound = |value: Value| match value.is_none() {
        true => Ok(None),
        false => i64::try_from(value).map(Some),
    };
    let (start, stop, step) = (bound(start)?, bound(stop)?, bound(step)?.unwrap_or(1));
    if step == 0 {
        return Err(invalid("a slice has no step of 0".into()));
    }
    match value.kind() {
        ValueKind::String => {
            let chars: Vec<char> = value.as_str().unwrap_or_default().chars().collect();
            let places = places(chars.len(), start, stop, step);
            Ok(Value::from(places.map(|place| chars[place]).collect::<String>()))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            let places = places(items.len(), start, stop, step);
            Ok(Value::from(places.map(|place| items[place].clone()).collect::<Vec<_>>()))
        }
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        _ => Ok(Value::UNDEFINED),
    }
}

/// The places of a sequence of `len` items that a slice takes, in its order. `step` is not 0.
fn places(
    len: usize,
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
) -> impl Iterator<Item = usize> {
    let len = len as i64;
    // The first and the last place to start from; before the first and behind the last there is nothing.
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let place = |bound: i64| {
        let from_the_start = if bound < 0 { bound.saturating_add(len) } else { bound };
        from_the_start.clamp(low, high)
    };
    let (first, end) = if step > 0 { (low, high) } else { (high, low) };
    let start = start.map_or(first, place);
    let stop = stop.map_or(end, place);
    let next = move |place: &i64| place.checked_add(step);
    let within = move |place: &i64| if step > 0 { *place < stop } else { *place > stop };
    std::iter::successors(Some(start), next).take_while(within).map(|place| place as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(start: Option<i64>, stop: Option<i64>, step: i64) -> Vec<usize> {
        places(5, start, stop, step).collect()
    }

    #[test]
    fn slices_take_what_python_takes() {
        assert_eq!(taken(None, None, 1), [0, 1, 2, 3, 4]);
        assert_eq!(taken(None, None, -1), [4, 3, 2, 1, 0]);
        assert_eq!(taken(Some(1), Some(-1), 1), [1, 2, 3]);
        assert_eq!(taken(Some(-2), None, 1), [3, 4]);
        assert_eq!(taken(Some(-9), Some(9), 2), [0, 2, 4]);
        assert_eq!(taken(Some(9), Some(-9), -2), [4, 2, 0]);
        assert_eq!(taken(Some(3), Some(0), -1), [3, 2, 1]);
        assert_eq!(taken(Some(3), None, -3), [3, 0]);
        assert_eq!(taken(Some(3), Some(1), 1), [0; 0]);
        assert_eq!(taken(None, None, i64::MAX), [0]);
        assert_eq!(taken(None, None, i64::MIN), [4]);
        assert_eq!(places(0, None, None, -1).count(), 0);
    }
}
