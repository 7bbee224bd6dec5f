//! Comparisons and `in`.

use std::cmp::Ordering;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

use super::super::budget::TextLimit;
use super::super::python::{float, kind_name};
use super::super::tuple::is_tuple;
use super::super::views::is_view;
use super::invalid::invalid;

/// `first sign operand sign operand ...`: whether every comparison of neighbors is true. Comparing reads
/// the operands, so their size and depth are checked.
pub fn chain(limit: TextLimit, state: &State, first: Value, rest: &[Value]) -> Result<bool, Error> {
    let mut left = limit.checked(state, first)?;
    for compared in rest.chunks_exact(2) {
        let right = limit.checked(state, compared[1].clone())?;
        if !compare(&left, compared[0].as_str().unwrap_or_default(), &right)? {
            return Ok(false);
        }
        left = right;
    }
    Ok(true)
}

/// `a sign b`.
pub fn compare(a: &Value, sign: &str, b: &Value) -> Result<bool, Error> {
    Ok(match sign {
        "==" => equal(a, b),
        "!=" => !equal(a, b),
        "in" => is_in(a, b)?,
        "not in" => !is_in(a, b)?,
        "<" => order(a, sign, b)? == Some(Ordering::Less),
        ">" => order(a, sign, b)? == Some(Ordering::Greater),
        "<=" => order(a, sign, b)?.is_some_and(Ordering::is_le),
        _ => order(a, sign, b)?.is_some_and(Ordering::is_ge),
    })
}

/// `a == b`. A tuple never equals a list.
pub fn equal(a: &Value, b: &Value) -> bool {
    is_tuple(a) == is_tuple(b) && is_view(a) == is_view(b) && a == b && !is_nan(a)
}

fn is_in(item: &Value, container: &Value) -> Result<bool, Error> {
    match (container.kind(), item.as_str()) {
        (ValueKind::Undefined, _) => Ok(false),
        (ValueKind::String, Some(text)) => {
            Ok(container.as_str().is_some_and(|container| container.contains(text)))
        }
        (ValueKind::String, None) => {
            Err(invalid(format!("`in` of a text needs a text, not {}", kind_name(item))))
        }
        (ValueKind::Seq | ValueKind::Iterable, _) => {
            Ok(container.try_iter()?.any(|other| equal(&other, item)))
        }
        (ValueKind::Map, _) => {
            Ok(container.as_object().is_some_and(|map| map.get_value(item).is_some()))
        }
        _ => Err(invalid(format!("`in` does not work for {}", kind_name(container)))),
    }
}

/// The order of two values; None if one is NaN. Only numbers, strings, and lists or tuples are ordered.
pub fn order(a: &Value, sign: &str, b: &Value) -> Result<Option<Ordering>, Error> {
    let is_number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    let is_list = |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) && !is_view(value)
    };
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        return Ok(Some(a.cmp(b)));
    }
    if is_number(a) && is_number(b) {
        return Ok(number_order(a, b));
    }
    if is_list(a) && is_list(b) && is_tuple(a) == is_tuple(b) {
        let mut right = b.try_iter()?;
        for item in a.try_iter()? {
            match right.next() {
                None => return Ok(Some(Ordering::Greater)),
                Some(other) if equal(&item, &other) => {}
                Some(other) => return order(&item, sign, &other),
            }
        }
        return Ok(Some(if right.next().is_some() { Ordering::Less } else { Ordering::Equal }));
    }
    if a.is_undefined() || b.is_undefined() {
        return Err(Error::new(
            ErrorKind::UndefinedError,
            format!("`{sign}` of an undefined value"),
        ));
    }
    Err(invalid(format!("`{sign}` does not work for {} and {}", kind_name(a), kind_name(b))))
}

fn number_order(a: &Value, b: &Value) -> Option<Ordering> {
    // Booleans are numbers in Python, but not in minijinja.
    let number = |value: &Value| match value.kind() {
        ValueKind::Bool => Value::from(i64::from(value.is_true())),
        _ => value.clone(),
    };
    if is_nan(a) || is_nan(b) {
        return None;
    }
    Some(number(a).cmp(&number(b)))
}

fn is_nan(value: &Value) -> bool {
    float(value).is_some_and(f64::is_nan)
}
