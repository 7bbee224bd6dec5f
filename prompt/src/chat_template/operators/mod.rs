//! Python's operators, as filters of the rewritten template.

mod arithmetic;
mod comparison;
mod invalid;
mod slices;

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, State, Value};

use super::budget::TextLimit;
use super::format::percent_format;
use super::python::{kind_name, write_str};
use super::rewrite::{
    ADD, COMPARE, CONCAT, DIVIDE, FLOOR_DIVIDE, ITEMS, MULTIPLY, NEGATE, PERCENT, POWER, SLICE,
    SUBTRACT, UNPACKED_ITEMS,
};
use invalid::invalid;

pub use arithmetic::add;
pub use comparison::{compare, equal, order};

/// Adds the filters for operators to `env`. `limit` is the limit of every string.
pub fn add_to(env: &mut Environment<'static>, limit: TextLimit) {
    env.add_filter(ADD, move |state: &State, a: Value, b: Value| {
        arithmetic::add(limit, state, &a, &b)
    });
    env.add_filter(MULTIPLY, move |state: &State, a: Value, b: Value| {
        arithmetic::multiply(limit, state, &a, &b)
    });
    env.add_filter(SUBTRACT, |a: Value, b: Value| arithmetic::subtract(&a, &b));
    env.add_filter(DIVIDE, |a: Value, b: Value| arithmetic::divide(&a, &b));
    env.add_filter(FLOOR_DIVIDE, |a: Value, b: Value| arithmetic::floor_divide(&a, &b));
    env.add_filter(POWER, |a: Value, b: Value| arithmetic::power(&a, &b));
    env.add_filter(NEGATE, |a: Value| arithmetic::negate(&a));
    env.add_filter(PERCENT, move |state: &State, a: Value, b: Value| match a.as_str() {
        Some(text) => percent_format(limit, state, text, &b).map(Value::from),
        None => arithmetic::remainder(&a, &b),
    });
    env.add_filter(CONCAT, move |state: &State, a: Value, b: Value| concat(limit, state, &a, &b));
    env.add_filter(COMPARE, move |state: &State, first: Value, rest: Rest<Value>| {
        comparison::chain(limit, state, first, &rest)
    });
    env.add_filter(
        SLICE,
        move |state: &State, value: Value, start: Value, stop: Value, step: Value| {
            slices::slice(limit, state, value, (start, stop, step))
        },
    );
    env.add_filter(ITEMS, items);
    env.add_filter(UNPACKED_ITEMS, items_apart);
}

/// `a ~ b`.
fn concat(limit: TextLimit, state: &State, a: &Value, b: &Value) -> Result<String, Error> {
    let mut text = String::new();
    write_str(&mut text, a)?;
    write_str(&mut text, b)?;
    limit.check(text.len(), state)?;
    Ok(text)
}

/// The items of a loop; the characters of a string.
pub fn items(value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => {
            let characters = value.as_str().unwrap_or_default().chars();
            Ok(characters.map(|c| Value::from(c.to_string())).collect::<Vec<_>>().into())
        }
        ValueKind::None | ValueKind::Bool | ValueKind::Number => {
            Err(invalid(format!("a value of type {} is not iterable", kind_name(&value))))
        }
        _ => Ok(value),
    }
}

/// As [`items`], with strings among the items as lists, because minijinja unpacks only lists.
fn items_apart(value: Value) -> Result<Value, Error> {
    let value = items(value)?;
    if value.is_undefined() || !value.try_iter()?.any(|item| item.as_str().is_some()) {
        return Ok(value);
    }
    Ok(value.try_iter()?.map(items).collect::<Result<Vec<_>, _>>()?.into())
}
