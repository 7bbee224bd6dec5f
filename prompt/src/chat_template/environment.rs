//! The environment of templates: functions, filters and tests.

use std::borrow::Cow;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::budget::{TextLimit, FUEL};
use super::{filters, is_tests, macros, methods, operators, python, rewrite, tuple, views};

/// An environment with the settings that transformers uses for Jinja.
pub fn environment(limit: TextLimit) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_fuel(Some(FUEL));
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_formatter(move |out, state, value| {
        let text = match value.as_str() {
            Some(text) => Cow::from(text),
            None => python::str_of(value)?.into(),
        };
        limit.check(text.len(), state)?;
        out.write_str(&text).map_err(Error::from)
    });
    env.set_unknown_method_callback(move |state, value, method, arguments| {
        methods::call(limit, state, value, method, arguments)
    });
    env.add_function("raise_exception", raise_exception);
    filters::add_to(&mut env, limit);
    operators::add_to(&mut env, limit);
    macros::add_to(&mut env);
    is_tests::add_to(&mut env);
    env.add_filter(rewrite::TUPLE, move |state: &State, items: Value| {
        limit.checked(state, items)?.try_iter().map(|items| tuple::tuple(items.collect()))
    });
    env.add_function("range", views::range);
    env.add_function("dict", dict);
    env.add_function("namespace", |pairs: Option<Value>, more: Kwargs| {
        minijinja::functions::namespace(Some(dict(pairs, more)?))
    });
    env.add_global("cycler", Value::from_function(minijinja_contrib::globals::cycler));
    env.add_global("joiner", Value::from_function(minijinja_contrib::globals::joiner));
    env
}

/// The source of errors that a template raises itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Raised(pub String);

/// `dict(pairs, **more)`, where `pairs` is a map or a list of key-value pairs.
fn dict(pairs: Option<Value>, more: Kwargs) -> Result<Value, Error> {
    let mut entries = Vec::new();
    if let Some(pairs) = pairs {
        let is_map = pairs.kind() == ValueKind::Map;
        for entry in pairs.try_iter()? {
            entries.push(if is_map {
                (entry.clone(), pairs.get_item(&entry)?)
            } else if entry.len() == Some(2) {
                (entry.get_item_by_index(0)?, entry.get_item_by_index(1)?)
            } else {
                let message = "dict: expected a map or a list of pairs";
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            });
        }
    }
    for name in more.args() {
        entries.push((Value::from(name), more.get(name)?));
    }
    Ok(Value::from_iter(entries))
}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    let message = python::str_of(message)?;
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}
