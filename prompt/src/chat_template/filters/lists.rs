//! Filters on lists.

use minijinja::value::{from_args, Kwargs, Rest};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::super::budget::{check_items, TextLimit};
use super::super::map_items::pairs;
use super::super::operators::add;
use super::super::python::{str_of, write_str};
use super::arguments::argument;

pub fn add_to(env: &mut Environment<'static>, limit: TextLimit) {
    env.add_filter(
        "join",
        move |state: &State,
              items: Value,
              separator: Option<Value>,
              attribute: Option<Value>,
              options: Kwargs| join(limit, state, items, separator, attribute, options),
    );
    env.add_filter("unique", |state: &State, items: Value, arguments: Rest<Value>| {
        let options = by_names(&arguments, &["case_sensitive", "attribute"])?;
        minijinja::filters::unique(state, items, options)
    });
    env.add_filter(
        "items",
        |map: Value| if map.is_undefined() { Ok(Vec::new()) } else { pairs(&map) },
    );
    env.add_filter("sum", move |state: &State, items: Value, arguments: Rest<Value>| {
        sum(limit, state, items, &arguments)
    });
    env.add_filter("length", length);
    env.add_filter("count", length);
    env.add_filter("batch", |state: &State, items: Value, size: usize, fill: Option<Value>| {
        check_items(size)?;
        minijinja::filters::batch(state, items, size, fill)
    });
    env.add_filter("slice", |state: &State, items: Value, size: usize, fill: Option<Value>| {
        check_items(size)?;
        minijinja::filters::slice(state, items, size, fill)
    });
}

/// `len(value)`; 0 for an undefined value.
fn length(value: Value) -> Result<usize, Error> {
    if value.is_undefined() {
        Ok(0)
    } else {
        minijinja::filters::length(&value)
    }
}

/// Arguments that Jinja also accepts by position, in the order of `names`, and minijinja by name only.
pub fn by_names(arguments: &[Value], names: &[&'static str]) -> Result<Kwargs, Error> {
    let (positional, options) = match arguments.split_last() {
        Some((last, positional)) if last.is_kwargs() => {
            (positional, Kwargs::try_from(last.clone())?)
        }
        _ => (arguments, Kwargs::from_iter::<[(String, Value); 0]>([])),
    };
    let given = options.args().map(|name| Ok((name.to_string(), options.get(name)?)));
    let mut named = given.collect::<Result<Vec<(String, Value)>, Error>>()?;
    named.extend(names.iter().map(ToString::to_string).zip(positional.iter().cloned()));
    Ok(Kwargs::from_iter(named))
}

/// The attribute of each item, or the items if no attribute is given.
pub fn attributes(state: &State, items: Value, attribute: Option<Value>) -> Result<Value, Error> {
    match attribute.filter(|attribute| !attribute.is_none()) {
        Some(attribute) => {
            let options = Kwargs::from_iter([("attribute", attribute)]);
            state.apply_filter("map", &[items, options.into()])
        }
        None => Ok(items),
    }
}

fn sum(limit: TextLimit, state: &State, items: Value, arguments: &[Value]) -> Result<Value, Error> {
    let (attribute, start, options): (Option<Value>, Option<Value>, Kwargs) = from_args(arguments)?;
    let attribute = argument(attribute, &options, "attribute")?;
    let mut sum = argument(start, &options, "start")?.unwrap_or_else(|| Value::from(0));
    options.assert_all_used()?;
    if sum.as_str().is_some() {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "sum: expected numbers or lists; `join` joins texts",
        ));
    }
    for item in attributes(state, items, attribute)?.try_iter()? {
        sum = add(limit, state, &sum, &item)?;
    }
    Ok(sum)
}

fn join(
    limit: TextLimit,
    state: &State,
    items: Value,
    separator: Option<Value>,
    attribute: Option<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    let separator = argument(separator, &options, "d")?;
    let attribute = argument(attribute, &options, "attribute")?;
    options.assert_all_used()?;
    let items = attributes(state, items, attribute)?;
    let separator = separator.map(|separator| str_of(&separator)).transpose()?.unwrap_or_default();
    joined(limit, state, &separator, &items)
}

/// `items` as strings, joined with `separator`.
pub fn joined(
    limit: TextLimit,
    state: &State,
    separator: &str,
    items: &Value,
) -> Result<String, Error> {
    let mut text = String::new();
    if items.is_undefined() {
        return Ok(text);
    }
    for (index, item) in items.try_iter()?.enumerate() {
        if index > 0 {
            text.push_str(separator);
        }
        write_str(&mut text, &item)?;
        limit.fits(text.len())?;
    }
    limit.check(text.len(), state)?;
    Ok(text)
}
